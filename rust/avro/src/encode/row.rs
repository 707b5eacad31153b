//! One value of a lane, written. The values are converted already, so one match decides and nothing fails.

use super::sink::{Head, Sink};
use crate::gate::{Data, Lane, Member, Ranges};
use crate::plan::Branch;

/// Most bytes of a varint of 32 and of 64 bits.
const INT: usize = 5;
const LONG: usize = 10;

impl Lane {
    /// More bytes than `slots` values of this lane can take.
    pub(super) fn bound(&self, slots: usize) -> usize {
        let branch = usize::from(self.branch != Branch::Bare);
        let (each, all) = match &self.data {
            Data::Null => (0, 0),
            Data::Const(bytes) => (bytes.len(), 0),
            Data::Boolean(_) => (1, 0),
            Data::Int(_) => (INT, 0),
            Data::Long(_) => (LONG, 0),
            Data::Float(_) => (4, 0),
            Data::Double(_) => (8, 0),
            Data::Bytes(offsets, _) => (INT, span(offsets)),
            Data::LargeBytes(offsets, _) => (LONG, span(offsets)),
            Data::View(views) => {
                // What a view below a null says of its length may be anything.
                let valid = |slot: &usize| {
                    self.nulls
                        .as_ref()
                        .is_none_or(|nulls| nulls.is_valid(*slot))
                };
                let lengths = views.lengths().enumerate().filter(|(slot, _)| valid(slot));
                (
                    INT,
                    lengths.fold(0_usize, |sum, (_, len)| sum.saturating_add(len as usize)),
                )
            }
            Data::Fixed(size, _) => (*size, 0),
            Data::Array(ranges, items) => (LONG + 1, items.bound(ranges.elements())),
            Data::Map(ranges, keys, values) => {
                let elements = ranges.elements();
                (
                    LONG + 1,
                    keys.bound(elements).saturating_add(values.bound(elements)),
                )
            }
            Data::Record(lanes) => (0, bounds(lanes, slots)),
            Data::Members(_, lanes) => (1, bounds(lanes, slots)),
            Data::OrDefault(_, default, lane) => (default.len(), lane.bound(slots)),
        };
        slots.saturating_mul(each + branch).saturating_add(all)
    }

    #[inline(always)]
    pub(super) fn write(&self, slot: usize, sink: &mut Sink) {
        let head = match self.branch {
            Branch::Bare => Head::NONE,
            Branch::Union { null, value } => {
                if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(slot)) {
                    // Without a null branch the row was rejected, and is not written.
                    sink.byte(null.unwrap_or(value));
                    return;
                }
                Head::of(value)
            }
        };
        match &self.data {
            Data::Int(values) => return sink.int(head, values[slot]),
            Data::Long(values) => return sink.long(head, values[slot]),
            Data::Bytes(offsets, data) => {
                let (from, to) = (offsets[slot], offsets[slot + 1]);
                sink.int(head, to - from);
                return sink.range(data, from as usize, to as usize);
            }
            _ => sink.head(head),
        }
        match &self.data {
            // Written above, with the head.
            Data::Int(_) | Data::Long(_) | Data::Bytes(..) => {}
            Data::Null => {}
            Data::Const(bytes) => sink.raw(bytes),
            Data::Boolean(values) => sink.byte(u8::from(values.value(slot))),
            Data::Float(values) => sink.raw(&values[slot].to_le_bytes()),
            Data::Double(values) => sink.raw(&values[slot].to_le_bytes()),
            Data::LargeBytes(offsets, data) => {
                let (from, to) = (offsets[slot], offsets[slot + 1]);
                sink.long(Head::NONE, to - from);
                sink.range(data, from as usize, to as usize);
            }
            Data::View(views) => {
                let bytes = views.value(slot);
                sink.long(Head::NONE, bytes.len() as i64);
                sink.raw(bytes);
            }
            Data::Fixed(size, data) => sink.range(data, slot * size, (slot + 1) * size),
            Data::Array(ranges, items) => {
                let (from, to) = ranges.of(slot);
                block(from, to, sink, |element, sink| {
                    items.write_cold(element, sink)
                });
            }
            Data::Map(ranges, keys, values) => {
                let (from, to) = ranges.of(slot);
                block(from, to, sink, |element, sink| {
                    keys.write_cold(element, sink);
                    values.write_cold(element, sink);
                });
            }
            Data::Record(lanes) => {
                for lane in lanes {
                    lane.write_cold(slot, sink);
                }
            }
            Data::Members(members, lanes) => match members[slot] {
                Member::Null(branch) => sink.byte(branch),
                Member::At(at) => lanes[usize::from(at)].write_cold(slot, sink),
            },
            Data::OrDefault(nulls, default, _) if nulls.is_null(slot) => sink.raw(default),
            Data::OrDefault(_, _, lane) => lane.write_cold(slot, sink),
        }
    }

    /// [`Lane::write`], for the recursion that can't be inlined.
    fn write_cold(&self, slot: usize, sink: &mut Sink) {
        self.write(slot, sink);
    }
}

impl Ranges {
    fn elements(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    fn of(&self, list: usize) -> (usize, usize) {
        (self.0[list], self.0[list + 1])
    }
}

/// One block of elements, and the empty block that ends them.
fn block(from: usize, to: usize, sink: &mut Sink, write: impl Fn(usize, &mut Sink)) {
    if from < to {
        sink.long(Head::NONE, (to - from) as i64);
        for element in from..to {
            write(element, sink);
        }
    }
    sink.byte(0);
}

fn bounds(lanes: &[Lane], slots: usize) -> usize {
    lanes
        .iter()
        .fold(0, |sum, lane| sum.saturating_add(lane.bound(slots)))
}

fn span<T: Copy + TryInto<usize>>(offsets: &[T]) -> usize {
    let at = |offset: Option<&T>| offset.and_then(|o| (*o).try_into().ok()).unwrap_or(0);
    at(offsets.last()).saturating_sub(at(offsets.first()))
}
