//! Lists, maps and structs: their elements as columns of their own.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, OffsetSizeTrait};
use arrow_schema::DataType;

use super::reject::{Parent, Site, malformed};
use super::{Data, Lane, Member, Ranges, Rows};
use crate::cpu;
use crate::error::EncodeError;
use crate::plan::{Child, Node};
use crate::reasons::{KEY_TWICE, NO_MEMBER, SEVERAL};

/// Where elements lie, when they are cut to what the lists use.
struct Elements {
    ranges: Ranges,
    start: usize,
    len: usize,
}

/// `offsets` has one more entry than there are lists, in order.
fn elements<O: OffsetSizeTrait>(site: &Site<'_>, offsets: &[O]) -> Result<Elements, EncodeError> {
    let start = offsets.first().map_or(Some(0), |first| first.to_usize());
    let start = start.ok_or_else(|| malformed(site.path, "a list offset below 0"))?;
    let ranges = cpu::run(Cut { offsets, start });
    let ranges = ranges.ok_or_else(|| malformed(site.path, "list offsets go backwards"))?;
    Ok(Elements {
        start,
        len: ranges.last().copied().unwrap_or(0),
        ranges: Ranges(ranges),
    })
}

/// Offsets that are to be counted from this one on, unless they go backwards.
struct Cut<'a, O> {
    offsets: &'a [O],
    start: usize,
}

impl<O: OffsetSizeTrait> cpu::Work for Cut<'_, O> {
    type Done = Option<Vec<usize>>;

    #[inline(always)]
    fn run(self) -> Self::Done {
        let Self { offsets, start } = self;
        let lists = offsets.iter().zip(offsets.iter().skip(1));
        // Not by `is_sorted`, which looks at one after the other, as it may end early.
        let is_sorted = lists.fold(true, |sorted, (from, to)| sorted & (from <= to));
        is_sorted.then(|| offsets.iter().map(|o| o.as_usize() - start).collect())
    }
}

/// What the children of a nested column are children of.
fn parent<'a>(site: &Site<'a>, rows: &'a Rows<'a>) -> Parent<'a> {
    Parent {
        rows,
        nulls: site.array.nulls(),
    }
}

pub(super) fn array(site: &mut Site<'_>, items: &Node) -> Result<Data, EncodeError> {
    let array = site.array;
    let (found, values): (Elements, &ArrayRef) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (elements(site, list.value_offsets())?, list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (elements(site, list.value_offsets())?, list.values())
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or(0);
            // The values of a sliced array are of the slice already.
            let ranges: Vec<usize> = (0..=list.len()).map(|i| i * size).collect();
            let found = Elements {
                start: 0,
                len: list.len() * size,
                ranges: Ranges(ranges),
            };
            (found, list.values())
        }
        _ => return Err(site.malformed()),
    };
    let values = values.slice(found.start, found.len);
    let of = site.rows;
    let rows = Rows::Element(parent(site, &of), &found.ranges.0);
    let lane = super::lane(items, &values, rows, site.out)?;
    Ok(Data::Array(found.ranges, Box::new(lane)))
}

pub(super) fn map(site: &mut Site<'_>, keys: &Node, values: &Node) -> Result<Data, EncodeError> {
    let map = site.array.as_map_opt().ok_or_else(|| site.malformed())?;
    let found = elements(site, map.value_offsets())?;
    let entries = map.entries().slice(found.start, found.len);
    let [key_column, value_column] = entries.columns() else {
        return Err(site.malformed());
    };
    let of = site.rows;
    let rows = Rows::Element(parent(site, &of), &found.ranges.0);
    let key_lane = super::lane(keys, key_column, rows, site.out)?;
    let twice = MayHaveTwice {
        keys: &key_lane.data,
        ranges: &found.ranges.0,
    };
    if cpu::run(twice) {
        for (i, range) in found.ranges.0.windows(2).enumerate() {
            if let &[from, to] = range
                && has_twice(&key_lane.data, from..to)
            {
                // Readers that make a map of it keep one of the two values, and not the same one.
                site.reject(i, KEY_TWICE);
            }
        }
    }
    let value_lane = super::lane(values, value_column, rows, site.out)?;
    Ok(Data::Map(
        found.ranges,
        Box::new(key_lane),
        Box::new(value_lane),
    ))
}

/// As many keys are compared with each other sooner than hashed.
const FEW: usize = 8;

/// Asks whether any of the maps may have a key twice. How many keys a map has can't be foretold, so the keys of all are
/// asked as one column: by what they begin and end with, their length and the number of their map.
struct MayHaveTwice<'a> {
    keys: &'a Data,
    ranges: &'a [usize],
}

impl cpu::Work for MayHaveTwice<'_> {
    type Done = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let maps = self.ranges.iter().zip(self.ranges.iter().skip(1));
        let longest = maps.fold(0, |longest, (from, to)| longest.max(to - from));
        if !(2..=FEW).contains(&longest) {
            return longest > FEW;
        }
        // How many maps begin at each key, but no more than a byte counts.
        let mut begin = vec![0_u8; self.ranges.last().copied().unwrap_or(0)];
        for from in self.ranges {
            if let Some(begin) = begin.get_mut(*from) {
                *begin = begin.saturating_add(1);
            }
        }
        let mut map = 0_u64;
        let mut print = |begin: u8, of_key: u64| {
            map = map.wrapping_add(u64::from(begin).wrapping_mul(0xd6e8_feb8_6659_fd93));
            of_key ^ map
        };
        let prints: Vec<u64> = match self.keys {
            Data::Bytes(offsets, bytes) => begin
                .iter()
                .zip(offsets.iter().zip(offsets.iter().skip(1)))
                .map(|(begin, (from, to))| {
                    print(*begin, print_of(bytes, *from as usize, *to as usize))
                })
                .collect(),
            keys => begin
                .iter()
                .enumerate()
                .map(|(key, begin)| {
                    let text = text(keys, key);
                    print(*begin, print_of(text, 0, text.len()))
                })
                .collect(),
        };
        (1..longest).any(|apart| {
            let later = prints.iter().skip(apart);
            let pairs = prints.iter().zip(later);
            pairs.fold(false, |twice, (one, other)| twice | (one == other))
        })
    }
}

/// A number that is the same for texts that are the same, and another for most that aren't.
#[inline(always)]
fn print_of(data: &[u8], from: usize, to: usize) -> u64 {
    const WORD: usize = size_of::<u64>();
    let len = to - from;
    let kept = len.min(WORD);
    // Both have all of a text that is shorter.
    let (begin, end) = match data.get(from..to - kept + WORD) {
        Some(both) => (first_word(both), last_word(both)),
        None => near_the_end(data, from, to - kept),
    };
    // Twice, as no number can be shifted by all of its bits.
    let shift = (WORD - kept) as u32 * (u8::BITS / 2);
    let begin = begin << shift << shift;
    let end = end << shift << shift;
    (begin.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ end.rotate_left(29))
        .wrapping_add(len as u64)
        .wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
}

fn first_word(data: &[u8]) -> u64 {
    data.first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

fn last_word(data: &[u8]) -> u64 {
    data.last_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// The words at these places, with zeros behind the data.
#[cold]
fn near_the_end(data: &[u8], begin: usize, end: usize) -> (u64, u64) {
    let word = |at: usize| {
        let mut word = [0; size_of::<u64>()];
        let rest = data.get(at..).unwrap_or_default();
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    };
    (word(begin), word(end))
}

/// A key.
fn text(keys: &Data, i: usize) -> &[u8] {
    match keys {
        Data::Bytes(offsets, bytes) => &bytes[offsets[i] as usize..offsets[i + 1] as usize],
        Data::LargeBytes(offsets, bytes) => &bytes[offsets[i] as usize..offsets[i + 1] as usize],
        Data::View(views, _) => views.value(i),
        _ => &[],
    }
}

/// Whether two of these keys are the same.
fn has_twice(keys: &Data, range: std::ops::Range<usize>) -> bool {
    let text = |i| text(keys, i);
    if range.len() <= FEW {
        let mut later = range.clone().skip(1);
        return range.clone().any(|i| {
            let same = later.clone().any(|k| text(i) == text(k));
            later.next();
            same
        });
    }
    let mut seen = HashSet::with_capacity(range.len());
    !range.into_iter().all(|i| seen.insert(text(i)))
}

pub(super) fn record(site: &mut Site<'_>, children: &[Child]) -> Result<Data, EncodeError> {
    let array = site.array.as_struct_opt().ok_or_else(|| site.malformed())?;
    let of = site.rows;
    let rows = Rows::Member(parent(site, &of));
    let lanes = super::record(children, array.columns(), rows, site.out)?;
    Ok(Data::Record(lanes))
}

/// A union of several types: the one member that is not null, or null where all are.
pub(super) fn members(
    site: &mut Site<'_>,
    members: &[Node],
    null: Option<u8>,
) -> Result<Data, EncodeError> {
    let array = site.array.as_struct_opt().ok_or_else(|| site.malformed())?;
    if array.columns().len() != members.len() {
        return Err(site.malformed());
    }
    let of = site.rows;
    let rows = Rows::Member(parent(site, &of));
    let mut lanes = Vec::with_capacity(members.len());
    for (node, column) in members.iter().zip(array.columns()) {
        lanes.push(super::lane(node, column, rows, site.out)?);
    }
    let null_slot = Member::Null(null.unwrap_or(0));
    let mut slots = vec![null_slot; array.len()];
    for (slot, i) in slots.iter_mut().zip(0..) {
        if array.is_null(i) {
            continue;
        }
        // As the lanes have it, since a NaN may have become null.
        let holds = |lane: &Lane| lane.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
        // A union has at most 64 branches.
        let mut held = (0_u8..).zip(&lanes).filter(|(_, lane)| holds(lane));
        match (held.next(), held.next()) {
            (Some((at, _)), None) => *slot = Member::At(at),
            (Some(_), Some(_)) => site.reject(i, SEVERAL),
            (None, _) if null.is_none() => site.reject(i, NO_MEMBER),
            (None, _) => {}
        }
    }
    Ok(Data::Members(slots, lanes))
}
