//! The values of a field, a block of them, put on the stage.

use super::fields::{Field, Values};
use super::stage::{Slots, Source, Stage, Texts};
use super::words::{self, BLOCK, Head, Word, is_narrow};
use crate::error::EncodeError;

impl<'a> Stage<'a> {
    /// Puts the values of a block of a field, the one of this number, behind those of the fields before it.
    pub(super) fn fill(
        &mut self,
        number: usize,
        field: &mut Field<'a>,
        from: usize,
        count: usize,
    ) -> Result<(), EncodeError> {
        let range = from..from + count;
        let head = field.head;
        let slots = Slots {
            from,
            count,
            head,
            null: field.null,
            nulls: field.nulls,
            absent: field.absent.as_ref(),
        };
        match &mut field.values {
            Values::None => {
                let out = self.narrow();
                words::same(head, out);
                slots.patch(out);
            }
            Values::Const(bytes) if bytes.len() <= u64::MOST => {
                let value = u64::load(bytes, 0, bytes.len());
                let out = self.narrow();
                words::plain((0..count).map(|_| value), bytes.len() as u32, head, out);
                slots.patch(out);
            }
            Values::Const(bytes) => {
                let mut len = [bytes.len(); BLOCK];
                slots.each(|slot, _| len[slot] = 0);
                self.span(Source::Data(bytes), [0; BLOCK], len);
            }
            Values::Boolean(values) => {
                let out = self.narrow();
                let values = range.map(|slot| u64::from(values.value(slot)));
                words::plain(values, 1, head, out);
                slots.patch(out);
            }
            Values::Int(values) => {
                let out = self.narrow();
                words::ints(&values[range], head, out);
                slots.patch(out);
            }
            Values::Long(values) => self.longs(&values[range], &slots),
            Values::Float(values) => {
                let out = self.narrow();
                let bits = values[range].iter().map(|v| u64::from(v.to_bits()));
                words::plain(bits, 4, head, out);
                slots.patch(out);
            }
            Values::Double(values) => {
                let out = self.wide();
                let bits = values[range].iter().map(|v| u128::from(v.to_bits()));
                words::plain(bits, 8, head, out);
                slots.patch(out);
            }
            Values::Unscaled(values) => {
                let values = &values[range];
                if is_narrow(head, 1 + words::longest_unscaled(values)) {
                    let out = self.narrow();
                    words::unscaled(values, head, out);
                    slots.patch(out);
                } else {
                    let out = self.wide();
                    words::unscaled(values, head, out);
                    slots.patch(out);
                }
            }
            Values::Bytes(offsets, data) => {
                let texts = Texts::between(&slots, &offsets[from..=from + count], |o| o as usize);
                self.texts(texts, Source::Data(data), &slots)?;
            }
            Values::LargeBytes(offsets, data) => {
                let texts = Texts::between(&slots, &offsets[from..=from + count], |o| o as usize);
                self.texts(texts, Source::Data(data), &slots)?;
            }
            Values::View(array) => {
                let views = array.views()[range].iter();
                let texts = views
                    .enumerate()
                    .map(|(slot, v)| (from + slot, *v as u32 as usize));
                let texts = Texts::new(&slots, texts);
                self.texts(texts, Source::Views(array), &slots)?;
            }
            Values::Fixed(size, data) => {
                let size = *size;
                if is_narrow(head, size) {
                    let out = self.narrow();
                    let values = range.map(|slot| u64::load(data, slot * size, size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else if size + head.len() <= u128::MOST {
                    let out = self.wide();
                    let values = range.map(|slot| u128::load(data, slot * size, size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else {
                    if head != Head::NONE {
                        let out = self.narrow();
                        words::same(head, out);
                        slots.patch(out);
                    }
                    let texts = Texts::new(&slots, range.map(|slot| (slot * size, size)));
                    self.span(Source::Data(data), texts.at, texts.len);
                }
            }
            Values::List(ranges, elements) => {
                let ranges = &ranges[from..=from + count];
                let first = ranges[0];
                elements.encode(first, ranges[count])?;
                let mut lengths = [0; BLOCK];
                let mut end = [0; BLOCK];
                let (mut at, mut len) = ([0; BLOCK], [0; BLOCK]);
                let offsets = &elements.offsets;
                for (slot, (from, to)) in ranges.iter().zip(&ranges[1..]).enumerate().take(BLOCK) {
                    lengths[slot] = (to - from) as i64;
                    at[slot] = offsets[from - first];
                    len[slot] = offsets[to - first] - at[slot];
                    // The empty block that ends a list is the length of one that has no elements.
                    end[slot] = u32::from(from < to);
                }
                slots.each(|slot, _| (lengths[slot], len[slot], end[slot]) = (0, 0, 0));
                self.longs(&lengths[..count], &slots);
                self.span(Source::Elements(number), at, len);
                words::zeros(&end, self.narrow());
            }
        }
        Ok(())
    }

    fn longs(&mut self, values: &[i64], slots: &Slots<'_>) {
        let head = slots.head;
        let lengths = words::long_lengths(values);
        if is_narrow(head, lengths.0 as usize) {
            let out = self.narrow();
            words::longs(values, head, lengths, out);
            slots.patch(out);
        } else {
            let out = self.wide();
            words::wide_longs(values, head, out);
            slots.patch(out);
        }
    }

    fn texts(
        &mut self,
        texts: Texts,
        source: Source<'a>,
        slots: &Slots<'_>,
    ) -> Result<(), EncodeError> {
        let head = slots.head;
        let len = &texts.len[..slots.count];
        let longest = len.iter().fold(0, |longest, len| longest.max(*len));
        if is_narrow(head, 1 + longest) {
            let out = self.narrow();
            let load = |(at, len): (&usize, &usize)| (source.load(*at, *len), *len);
            words::texts(texts.at.iter().zip(len).map(load), head, out);
            slots.patch(out);
        } else if source.is_at_hand(longest) && 1 + longest + head.len() <= u128::MOST {
            let out = self.wide();
            let load = |(at, len): (&usize, &usize)| (source.load(*at, *len), *len);
            words::texts(texts.at.iter().zip(len).map(load), head, out);
            slots.patch(out);
        } else {
            if i32::try_from(longest).is_ok() {
                let mut lengths = [0; BLOCK];
                for (length, len) in lengths.iter_mut().zip(len) {
                    *length = *len as i32;
                }
                let out = self.narrow();
                words::ints(&lengths[..slots.count], head, out);
                slots.patch(out);
            } else {
                let lengths: Result<Vec<i64>, _> = len.iter().map(|l| i64::try_from(*l)).collect();
                let lengths = lengths.map_err(|_| EncodeError::TooLarge { bytes: longest })?;
                self.longs(&lengths, slots);
            }
            self.span(source, texts.at, texts.len);
        }
        Ok(())
    }
}
