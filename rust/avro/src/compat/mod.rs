//! Whether what was written with one schema can be read with another, by the rules of the Avro specification.
//!
//! [`check`] gives every reason why not, with its place; none means that any message of the writer can be read. It is a
//! pure relation of two schemas: levels such as "backward" or "full, transitive" are made of it by who keeps versions.
//!
//! Where the specification leaves room, Java's reference implementation decides: unqualified names match; a union's
//! branch of the very type goes before one that takes it by promotion; a logical type is its underlying type, but for
//! decimals, whose precision and scale must be equal.

mod general;
mod model;
pub(crate) mod relation;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use general::GeneralSchema;

use crate::schema::AvroSchema;
use relation::{FieldSource, Node, Shape, Step, step};

/// Most incompatibilities that one check gives.
const MAX_FOUND: usize = 100;
/// Types within types that are looked into, so that no schema can exhaust the stack.
const MAX_DEPTH: usize = 250;

/// One reason why a writer's messages can't all be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// Path of the reader's field from the top; empty for the top itself.
    pub path: String,
    /// What kind of reason it is.
    pub kind: IncompatibilityKind,
    /// The reason, naming both sides.
    pub reason: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncompatibilityKind {
    /// A reader's field that the writer doesn't have, and that has no default.
    MissingDefault,
    /// A type that is not the reader's and isn't promoted to it.
    TypeMismatch,
    /// Records, enums or fixed of another name.
    NameMismatch,
    /// Fixed of another size.
    FixedSize,
    /// A writer's symbol that the reader's enum has not, and it has no default.
    EnumSymbolMissing,
    /// A writer's type that no branch of the reader's union takes.
    UnionBranchMissing,
    /// Decimals of another precision or scale.
    DecimalMismatch,
    /// Logical types of another meaning over one underlying type, such as a date and an int of milliseconds. For the
    /// specification they fit, and so for [`check`]; a decoder refuses them, since no value would keep its meaning.
    LogicalMismatch,
    /// Types nested so deeply, or so many, that they were not compared.
    TooDeep,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() {
            "the top"
        } else {
            &self.path
        };
        write!(f, "{place}: {}", self.reason)
    }
}

/// Why what `writer` wrote can't all be read with `reader`; nothing when it can. At most 100 reasons are given.
#[must_use]
pub fn check(reader: &AvroSchema, writer: &AvroSchema) -> Vec<Incompatibility> {
    check_general(reader.general(), writer.general())
}

/// As [`check`], of any two schemas.
#[must_use]
pub fn check_general(reader: &GeneralSchema, writer: &GeneralSchema) -> Vec<Incompatibility> {
    let (reader_names, writer_names) = (reader.names(), writer.names());
    let mut checker = Checker {
        records: HashMap::new(),
        taken: Vec::new(),
        depth: 0,
    };
    let (reader, writer) = (reader.top(&reader_names), writer.top(&writer_names));
    checker.pair(reader, writer, "")
}

/// Full names of a reader's and a writer's record.
type Pair = (String, String);

struct Checker {
    /// Pairs of records that were compared, or are being compared and are taken to fit, as recursion needs it. Paths
    /// start at the record.
    records: HashMap<Pair, Arc<[Incompatibility]>>,
    /// The pairs that fit so far, in order: one that fits only as long as another does is forgotten with it.
    taken: Vec<Pair>,
    depth: usize,
}

impl Checker {
    fn pair<'a, N: Node<'a>>(&mut self, reader: N, writer: N, path: &str) -> Vec<Incompatibility> {
        if self.depth == MAX_DEPTH {
            let reason = format!("nested in more than {MAX_DEPTH} types, and not compared");
            return found(path, IncompatibilityKind::TooDeep, reason);
        }
        self.depth += 1;
        let mut all = self.compare(reader, writer, path);
        self.depth -= 1;
        all.truncate(MAX_FOUND);
        all
    }

    fn compare<'a, N: Node<'a>>(
        &mut self,
        reader: N,
        writer: N,
        path: &str,
    ) -> Vec<Incompatibility> {
        let (view, written) = (reader.view(), writer.view());
        let (name, written_name) = (view.name(), written.name());
        let records = match (&view.shape, &written.shape) {
            (Shape::Record(r, _), Shape::Record(w, _)) => {
                Some((r.full.to_string(), w.full.to_string()))
            }
            _ => None,
        };
        match step(view, written) {
            Step::Leaf => Vec::new(),
            Step::Refused(kind, reason) => found(path, kind, reason),
            Step::Array(r, w) => self.pair(r, w, &format!("{path}[]")),
            Step::Map(r, w) => self.pair(r, w, &format!("{path}{{}}")),
            Step::Enum(ours, theirs) => {
                let missing: Vec<&str> = ours
                    .iter()
                    .zip(theirs)
                    .filter(|(our, _)| our.is_none())
                    .map(|(_, symbol)| symbol.as_str())
                    .collect();
                if missing.is_empty() {
                    return Vec::new();
                }
                let reason = format!(
                    "the reader's {name} has neither the writer's symbols {} nor a default",
                    missing.join(", ")
                );
                found(path, IncompatibilityKind::EnumSymbolMissing, reason)
            }
            Step::WriterUnion(branches) => branches
                .into_iter()
                .flat_map(|branch| self.pair(reader, branch, path))
                .collect(),
            Step::ReaderUnion(candidates, branches) => {
                let mut why = String::new();
                for i in candidates {
                    let Some(branch) = branches.get(i) else {
                        continue;
                    };
                    match self.pair(*branch, writer, path).first() {
                        None => return Vec::new(),
                        Some(first) if why.is_empty() => why = format!(" ({first})"),
                        Some(_) => {}
                    }
                }
                let reason = format!(
                    "no branch of the reader's union takes the writer's {written_name}{why}"
                );
                found(path, IncompatibilityKind::UnionBranchMissing, reason)
            }
            Step::Record(ours, theirs, sources) => {
                let Some(pair) = records else {
                    return Vec::new();
                };
                if let Some(known) = self.records.get(&pair) {
                    return known.iter().map(|i| i.below(path)).collect();
                }
                self.records.insert(pair.clone(), Arc::from([]));
                let before = self.taken.len();
                self.taken.push(pair.clone());
                let mut all = Vec::new();
                for (field, source) in ours.iter().zip(sources) {
                    match source {
                        FieldSource::Default => {}
                        FieldSource::Missing => all.extend(found(
                            field.name,
                            IncompatibilityKind::MissingDefault,
                            format!(
                                "the writer's {written_name} has no such field, and the reader's has no default"
                            ),
                        )),
                        FieldSource::Writer(i) => {
                            if let Some(theirs) = theirs.get(i) {
                                all.extend(self.pair(field.ty, theirs.ty, field.name));
                            }
                        }
                    }
                }
                if !all.is_empty() {
                    all.truncate(MAX_FOUND);
                    // What was found to fit meanwhile may have counted on this pair.
                    for undone in self.taken.drain(before..) {
                        self.records.remove(&undone);
                    }
                    self.records.insert(pair, all.clone().into());
                }
                all.iter().map(|i| i.below(path)).collect()
            }
        }
    }
}

fn found(path: &str, kind: IncompatibilityKind, reason: String) -> Vec<Incompatibility> {
    vec![Incompatibility {
        path: path.to_owned(),
        kind,
        reason,
    }]
}

impl Incompatibility {
    /// The same, below a record at this path.
    fn below(&self, record: &str) -> Self {
        let path = if record.is_empty() {
            self.path.clone()
        } else {
            format!("{record}.{}", self.path)
        };
        Self {
            path,
            ..self.clone()
        }
    }
}
