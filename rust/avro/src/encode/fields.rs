//! A record's lanes as one flat list of fields in the order of writing: structs give way to their fields, so that what is
//! left is leaves, lists and maps.

use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::block::Elements;
use super::words::{BLOCK, Head};
use crate::gate::{Data, Lane, Member};
use crate::plan::Branch;

/// Most bytes of a varint of 32 and of 64 bits.
const INT: usize = 5;
const LONG: usize = 10;

/// A column of values that are written one after the other.
pub(super) struct Field<'a> {
    pub(super) head: Head,
    /// The head of a null; nothing where null is no value, as its row is not written then.
    pub(super) null: Head,
    /// `None` when no slot is null.
    pub(super) nulls: Option<&'a NullBuffer>,
    /// Slots below a struct that is null there: nothing is written.
    pub(super) absent: Option<NullBuffer>,
    pub(super) values: Values<'a>,
    /// What bytes are taken from: the data of the column; of views, the views themselves and then their buffers.
    pub(super) sources: Vec<&'a [u8]>,
}

/// The values of a field. What is below a null may be anything, and is not looked at where it has a length.
pub(super) enum Values<'a> {
    /// Nothing behind the head.
    None,
    /// The first source, in every slot.
    Const,
    Boolean(&'a BooleanBuffer),
    Int(&'a [i32]),
    Long(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Unscaled(&'a [i64]),
    Bytes(&'a [i32]),
    LargeBytes(&'a [i64]),
    View(&'a [u128]),
    Fixed(usize),
    /// Where the elements of each list lie, and the elements.
    List(&'a [usize], Box<Elements<'a>>),
    /// Behind those of each list that has some, the empty block that ends them.
    End(&'a [usize]),
}

impl<'a> Field<'a> {
    /// Values of which none is null, unless it is said.
    fn of(head: Head, absent: Option<NullBuffer>, values: Values<'a>) -> Self {
        Self {
            head,
            null: Head::NONE,
            nulls: None,
            absent,
            values,
            sources: Vec::new(),
        }
    }

    /// The same bytes in every slot.
    pub(super) fn constant(bytes: &'a [u8], absent: Option<NullBuffer>) -> Self {
        Self {
            sources: vec![bytes],
            ..Self::of(Head::NONE, absent, Values::Const)
        }
    }

    /// The bytes of which there is one piece.
    pub(super) fn source(&self) -> &'a [u8] {
        self.sources.first().copied().unwrap_or_default()
    }

    /// More bytes than `slots` values of this field can take.
    pub(super) fn bound(&self, slots: usize) -> usize {
        let (each, all) = match &self.values {
            Values::None => (0, 0),
            Values::Const => (self.source().len(), 0),
            Values::Boolean(_) => (1, 0),
            Values::Int(_) => (INT, 0),
            Values::Long(_) => (LONG, 0),
            Values::Float(_) => (4, 0),
            Values::Double(_) => (8, 0),
            Values::Unscaled(_) => (9, 0),
            Values::Bytes(offsets) => (INT, span(offsets)),
            Values::LargeBytes(offsets) => (LONG, span(offsets)),
            Values::View(views) => {
                let len = |view: &u128| *view as u32 as usize;
                let sum = |sum: usize, len| sum.saturating_add(len);
                let all = match NullBuffer::union(self.nulls, self.absent.as_ref()) {
                    // So few lengths of 32 bits can't overflow, and are summed without a look at each.
                    None => views
                        .chunks(BLOCK)
                        .map(|block| block.iter().map(len).sum())
                        .fold(0, sum),
                    // What a view below a null says of its length may be anything.
                    Some(nulls) => nulls
                        .valid_indices()
                        .filter_map(|slot| views.get(slot))
                        .map(len)
                        .fold(0, sum),
                };
                (INT, all)
            }
            Values::Fixed(size) => (*size, 0),
            Values::List(_, elements) => (LONG, elements.bound()),
            Values::End(_) => (1, 0),
        };
        let head = self.head.len();
        slots.saturating_mul(each + head).saturating_add(all)
    }
}

fn span<T: Copy + TryInto<usize>>(offsets: &[T]) -> usize {
    let at = |offset: Option<&T>| offset.and_then(|o| (*o).try_into().ok()).unwrap_or(0);
    at(offsets.last()).saturating_sub(at(offsets.first()))
}

/// Adds the fields of a lane, of which nothing is written where `absent` is null.
pub(super) fn flatten<'a>(lane: &'a Lane, absent: Option<NullBuffer>, out: &mut Vec<Field<'a>>) {
    let (head, null) = match lane.branch {
        Branch::Bare => (Head::NONE, Head::NONE),
        Branch::Union { null, value } => (Head::of(value), null.map_or(Head::NONE, Head::of)),
    };
    let list = |ranges: &'a [usize], lanes: &[&'a Lane]| {
        let mut fields = Vec::new();
        for lane in lanes {
            flatten(lane, None, &mut fields);
        }
        let total = ranges.last().copied().unwrap_or_default();
        Values::List(ranges, Box::new(Elements::new(fields, total)))
    };
    let mut sources: Vec<&'a [u8]> = Vec::new();
    let values = match &lane.data {
        Data::Null | Data::Record(_) | Data::Members(..) | Data::OrDefault(..) => Values::None,
        Data::Const(bytes) => {
            sources.push(bytes);
            Values::Const
        }
        Data::Boolean(values) => Values::Boolean(values),
        Data::Int(values) => Values::Int(values),
        Data::Long(values) => Values::Long(values),
        Data::Float(values) => Values::Float(values),
        Data::Double(values) => Values::Double(values),
        Data::Unscaled(values) => Values::Unscaled(values),
        Data::Bytes(offsets, data) => {
            sources.push(data);
            Values::Bytes(offsets)
        }
        Data::LargeBytes(offsets, data) => {
            sources.push(data);
            Values::LargeBytes(offsets)
        }
        Data::View(array, buffers) => {
            sources.push(array.views().inner());
            sources.extend(buffers.iter().map(|data| &data[..]));
            Values::View(array.views())
        }
        Data::Fixed(size, data) => {
            sources.push(data);
            Values::Fixed(*size)
        }
        Data::Array(ranges, items) => list(&ranges.0, &[items]),
        Data::Map(ranges, keys, values) => list(&ranges.0, &[keys, values]),
    };
    let field = Field {
        head,
        null,
        nulls: lane.nulls.as_ref(),
        absent: absent.clone(),
        values,
        sources,
    };
    // A struct that can't be null writes nothing of its own.
    if !matches!(field.values, Values::None) || head != Head::NONE {
        out.push(field);
    }
    if let Data::Array(ranges, _) | Data::Map(ranges, ..) = &lane.data {
        out.push(Field {
            nulls: lane.nulls.as_ref(),
            ..Field::of(Head::NONE, absent.clone(), Values::End(&ranges.0))
        });
    }
    // Of what follows, a slot is written where these bits are set.
    let only = |bits: BooleanBuffer| NullBuffer::union(absent.as_ref(), Some(&bits.into()));
    match &lane.data {
        Data::Record(lanes) => {
            let absent = NullBuffer::union(absent.as_ref(), lane.nulls.as_ref());
            for lane in lanes {
                flatten(lane, absent.clone(), out);
            }
        }
        Data::Members(members, lanes) => {
            let is = |f: &dyn Fn(&Member) -> bool| {
                BooleanBuffer::collect_bool(members.len(), |slot| f(&members[slot]))
            };
            let null = members.iter().find_map(|member| match member {
                Member::Null(branch) => Some(*branch),
                Member::At(_) => None,
            });
            if let Some(branch) = null {
                let absent = only(is(&|member| matches!(member, Member::Null(_))));
                out.push(Field::of(Head::of(branch), absent, Values::None));
            }
            for (number, lane) in lanes.iter().enumerate() {
                let chosen = |member: &Member| matches!(member, Member::At(at) if usize::from(*at) == number);
                flatten(lane, only(is(&chosen)), out);
            }
        }
        Data::OrDefault(given, default, lane) => {
            let missing = only(!given.inner());
            out.push(Field::constant(default, missing));
            flatten(lane, only(given.inner().clone()), out);
        }
        _ => {}
    }
}
