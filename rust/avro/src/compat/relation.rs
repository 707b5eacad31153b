//! What Avro says of one reader's type and one writer's type, apart from the types inside them and from how a schema
//! is kept. The compatibility check and the decoder's resolution both stand on it, so that they can't disagree.

use std::borrow::Cow;

use super::IncompatibilityKind as Kind;

/// A type of some schema.
pub(crate) trait Node<'a>: Copy {
    /// One level of it.
    fn view(self) -> View<'a, Self>;
}

/// One level of a type; `N` stands for the types inside it. Logical types are their underlying type here, but for what
/// matters to a decimal.
#[derive(Debug)]
pub(crate) struct View<'a, N> {
    pub(crate) shape: Shape<'a, N>,
    /// Precision and scale.
    pub(crate) decimal: Option<(usize, usize)>,
}

#[derive(Debug)]
pub(crate) enum Shape<'a, N> {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Its name where it is known, and its size.
    Fixed(Option<Named<'a>>, usize),
    Enum {
        name: Named<'a>,
        symbols: &'a [String],
        default: Option<&'a str>,
    },
    Array(N),
    Map(N),
    Record(Named<'a>, Vec<FieldView<'a, N>>),
    Union(Vec<N>),
}

/// A full name, and the full names that it also reads.
#[derive(Debug, Clone)]
pub(crate) struct Named<'a> {
    pub(crate) full: Cow<'a, str>,
    pub(crate) aliases: Cow<'a, [String]>,
}

#[derive(Debug)]
pub(crate) struct FieldView<'a, N> {
    pub(crate) name: &'a str,
    pub(crate) aliases: &'a [String],
    pub(crate) has_default: bool,
    pub(crate) ty: N,
}

/// Where a reader's field comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldSource {
    /// The writer's field of this number.
    Writer(usize),
    /// The reader's default.
    Default,
    /// Nowhere: the schemas don't fit.
    Missing,
}

/// What is to be done with the types inside.
#[derive(Debug)]
pub(crate) enum Step<'r, 'w, N, M> {
    /// The same type without types inside, or one that is promoted.
    Leaf,
    /// By the writer's number of a symbol, the reader's symbol; `None` where it has neither the symbol nor a default.
    Enum(Vec<Option<&'r str>>, &'w [String]),
    Array(N, M),
    Map(N, M),
    /// A source for each field of the reader.
    Record(
        Vec<FieldView<'r, N>>,
        Vec<FieldView<'w, M>>,
        Vec<FieldSource>,
    ),
    /// The reader's type against each branch of the writer's union.
    WriterUnion(Vec<M>),
    /// The branches of the reader's union that may take the writer's type, best first.
    ReaderUnion(Vec<usize>, Vec<N>),
    Refused(Kind, String),
}

/// How well two types fit, types inside apart; the best is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The same type, of the same full name if it has one.
    Same,
    /// The same type by its unqualified name or an alias.
    Renamed,
    Promoted,
}

pub(crate) fn step<'r, 'w, N: Node<'r>, M: Node<'w>>(
    reader: View<'r, N>,
    writer: View<'w, M>,
) -> Step<'r, 'w, N, M> {
    if let Shape::Union(branches) = writer.shape {
        return Step::WriterUnion(branches);
    }
    if let Shape::Union(branches) = reader.shape {
        let mut fits: Vec<(Fit, usize)> = branches
            .iter()
            .enumerate()
            .filter_map(|(i, branch)| Some((fit(&branch.view(), &writer).ok()?, i)))
            .collect();
        fits.sort_unstable();
        return Step::ReaderUnion(fits.into_iter().map(|(_, i)| i).collect(), branches);
    }
    if let Err((kind, reason)) = fit(&reader, &writer) {
        return Step::Refused(kind, reason);
    }
    match (reader.shape, writer.shape) {
        (Shape::Array(r), Shape::Array(w)) => Step::Array(r, w),
        (Shape::Map(r), Shape::Map(w)) => Step::Map(r, w),
        (
            Shape::Enum {
                symbols: ours,
                default,
                ..
            },
            Shape::Enum { symbols, .. },
        ) => {
            let of = |symbol: &String| {
                let same = ours.iter().find(|s| *s == symbol).map(String::as_str);
                // A default that is no symbol is none.
                same.or_else(|| default.filter(|d| ours.iter().any(|s| s == d)))
            };
            Step::Enum(symbols.iter().map(of).collect(), symbols)
        }
        (Shape::Record(_, ours), Shape::Record(_, theirs)) => {
            let sources = ours
                .iter()
                .map(|field| {
                    // The name itself goes before the aliases, and those in their order.
                    let names =
                        std::iter::once(field.name).chain(field.aliases.iter().map(String::as_str));
                    let found = names
                        .filter_map(|name| theirs.iter().position(|f| f.name == name))
                        .next();
                    match found {
                        Some(i) => FieldSource::Writer(i),
                        None if field.has_default => FieldSource::Default,
                        None => FieldSource::Missing,
                    }
                })
                .collect();
            Step::Record(ours, theirs, sources)
        }
        _ => Step::Leaf,
    }
}

/// Whether the types fit, types inside apart; of unions nothing is said.
fn fit<'r, 'w, N, M>(reader: &View<'r, N>, writer: &View<'w, M>) -> Result<Fit, (Kind, String)> {
    use Shape::{
        Array, Boolean, Bytes, Double, Enum, Fixed, Float, Int, Long, Map, Null, Record, String,
    };
    let found = match (&reader.shape, &writer.shape) {
        (Null, Null)
        | (Boolean, Boolean)
        | (Int, Int)
        | (Long, Long)
        | (Float, Float)
        | (Double, Double)
        | (Bytes, Bytes)
        | (String, String)
        | (Array(_), Array(_))
        | (Map(_), Map(_)) => Fit::Same,
        (Long, Int) | (Float, Int | Long) | (Double, Int | Long | Float) => Fit::Promoted,
        (Bytes, String) | (String, Bytes) => Fit::Promoted,
        (Fixed(r, size), Fixed(w, written)) => {
            let fit = match (r, w) {
                (Some(r), Some(w)) => same_name(r, w)?,
                _ => Fit::Same,
            };
            if size != written {
                let reason = format!("the reader's fixed has {size} bytes, the writer's {written}");
                return Err((Kind::FixedSize, reason));
            }
            fit
        }
        (Enum { name: r, .. }, Enum { name: w, .. }) | (Record(r, _), Record(w, _)) => {
            same_name(r, w)?
        }
        _ => {
            let (reader, writer) = (reader.name(), writer.name());
            let reason = format!("the writer's {writer} can't be read as {reader}");
            return Err((Kind::TypeMismatch, reason));
        }
    };
    match (reader.decimal, writer.decimal) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let reason = format!(
                "the reader's decimal{ours:?} is not the writer's decimal{theirs:?}: precision and scale must be equal"
            );
            Err((Kind::DecimalMismatch, reason))
        }
        _ => Ok(found),
    }
}

fn same_name(reader: &Named<'_>, writer: &Named<'_>) -> Result<Fit, (Kind, String)> {
    let short = |name: &str| name.rsplit('.').next().map(str::to_owned);
    if reader.full == writer.full {
        Ok(Fit::Same)
    } else if short(&reader.full) == short(&writer.full)
        || reader.aliases.iter().any(|alias| *alias == writer.full)
    {
        Ok(Fit::Renamed)
    } else {
        let reason = format!(
            "the reader's name {} is not the writer's {}, nor has it that as an alias",
            reader.full, writer.full
        );
        Err((Kind::NameMismatch, reason))
    }
}

impl<N> View<'_, N> {
    /// The type as a person would say it.
    pub(crate) fn name(&self) -> String {
        let plain = match &self.shape {
            Shape::Null => "null",
            Shape::Boolean => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Fixed(Some(name), size) => return format!("fixed {}({size})", name.full),
            Shape::Fixed(None, size) => return format!("fixed({size})"),
            Shape::Enum { name, .. } => return format!("enum {}", name.full),
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Record(name, _) => return format!("record {}", name.full),
            Shape::Union(_) => "union",
        };
        plain.to_owned()
    }
}
