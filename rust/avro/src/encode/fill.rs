//! The values of a field, a block of them, put on the stage.

use std::hint::select_unpredictable;

use super::fields::{Field, Values};
use super::numbers;
use super::stage::{Slots, Span, Stage, Step, between};
use super::words::{self, Word, is_narrow};
use crate::error::EncodeError;

/// Most bytes of a view that has its text in it, and where in the view it stands.
const INLINE: usize = 12;
const INLINE_AT: usize = 4;

// What loops over the slots is inlined into each form of `fill_all`, to be compiled for the same processor.
impl Stage {
    /// Puts a block of all fields on the stage.
    #[inline(always)]
    pub(super) fn fill_all(
        &mut self,
        fields: &mut [Field<'_>],
        from: usize,
        count: usize,
    ) -> Result<(), EncodeError> {
        self.clear();
        for (number, field) in fields.iter_mut().enumerate() {
            field.fetch_ahead(from, count);
            self.fill(number, field, from, count)?;
            self.pack(count);
        }
        Ok(())
    }

    /// Puts the values of a block of a field, the one of this number, behind those of the fields before it.
    #[inline(always)]
    fn fill(
        &mut self,
        number: usize,
        field: &mut Field<'_>,
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
                let out = self.narrow(slots.most(0));
                words::same(head, out);
                slots.patch(out);
            }
            Values::Const => {
                let bytes = field.source();
                let size = bytes.len();
                if is_narrow(head, size) {
                    let value = u64::load(bytes, 0);
                    let out = self.narrow(slots.most(size));
                    words::plain((0..count).map(|_| value), size as u32, head, out);
                    slots.patch(out);
                } else {
                    self.same_size(number, &slots, range.map(|_| (0, 0, size)));
                }
            }
            Values::Boolean(values) => {
                let out = self.narrow(slots.most(1));
                numbers::bits(values, range, head, out);
                slots.patch(out);
            }
            Values::Int(values) => {
                let values = &values[range];
                let length = numbers::int_length(values);
                let out = self.narrow(slots.most(length as usize));
                numbers::ints(values, head, length, out);
                slots.patch(out);
            }
            Values::Long(values) => self.longs(&values[range], &slots),
            Values::Float(values) => {
                let out = self.narrow(slots.most(4));
                let bits = values[range].iter().map(|v| u64::from(v.to_bits()));
                words::plain(bits, 4, head, out);
                slots.patch(out);
            }
            Values::Double(values) => {
                let out = self.wide(slots.most(8));
                let bits = values[range].iter().map(|v| u128::from(v.to_bits()));
                words::plain(bits, 8, head, out);
                slots.patch(out);
            }
            Values::Unscaled(values) => {
                let values = &values[range];
                let longest = 1 + numbers::longest_unscaled(values);
                if is_narrow(head, longest) {
                    let out = self.narrow(slots.most(longest));
                    numbers::unscaled::<u64>(values, head, out);
                    slots.patch(out);
                } else {
                    let out = self.wide(slots.most(longest));
                    numbers::unscaled::<u128>(values, head, out);
                    slots.patch(out);
                }
            }
            Values::Bytes(offsets) => {
                let offsets = &offsets[from..=from + count];
                // As 32 bits, of which twice as many are looked at at once.
                let lengths = offsets.iter().zip(&offsets[1..]);
                let lengths = lengths.map(|(from, to)| to.wrapping_sub(*from) as u32);
                let longest = lengths.fold(0, u32::max) as usize;
                self.texts(number, field, offsets, longest, |o| o as usize, &slots)?;
            }
            Values::LargeBytes(offsets) => {
                let offsets = &offsets[from..=from + count];
                let lengths = between(offsets, |o| o as usize).map(|(_, len)| len);
                let longest = lengths.fold(0, usize::max);
                self.texts(number, field, offsets, longest, |o| o as usize, &slots)?;
            }
            Values::View(views) => self.views(number, &views[range], &slots)?,
            Values::Fixed(size) => {
                let (size, data) = (*size, field.source());
                if is_narrow(head, size) {
                    let out = self.narrow(slots.most(size));
                    let values = range.map(|slot| u64::load(data, slot * size) & u64::low(size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else if size + head.len() <= u128::MOST {
                    let out = self.wide(slots.most(size));
                    let values = range.map(|slot| u128::load(data, slot * size) & u128::low(size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else {
                    self.same_size(number, &slots, range.map(|slot| (0, slot * size, size)));
                }
            }
            Values::List(ranges, elements) => {
                let offsets = &ranges[from..=from + count];
                let mut span = self.empty_span();
                span.between(&slots, offsets, |o| o);
                lengths(&mut span, &slots)?;
                let may_be_null = slots.nulls.is_some() || slots.absent.is_some();
                elements.encode(offsets, &mut span, may_be_null)?;
                self.span(span, slots.count, |span| Step::List {
                    field: number,
                    span,
                });
            }
            Values::End(ranges) => {
                let elements = between(&ranges[from..=from + count], |o| o);
                let out = self.narrow(1);
                words::ends(elements.map(|(_, len)| len), out);
                slots.patch(out);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn longs(&mut self, values: &[i64], slots: &Slots<'_>) {
        let head = slots.head;
        let lengths = numbers::long_lengths(values);
        if is_narrow(head, lengths.0 as usize) {
            let out = self.narrow(slots.most(lengths.0 as usize));
            numbers::longs(values, head, lengths, out);
            slots.patch(out);
        } else {
            let out = self.wide(slots.most(lengths.0 as usize));
            numbers::wide_longs(values, head, lengths, out);
            slots.patch(out);
        }
    }

    /// Bytes of which there are as many in each slot, so that their length is not written.
    #[inline(always)]
    fn same_size(
        &mut self,
        field: usize,
        slots: &Slots<'_>,
        places: impl Iterator<Item = (u32, usize, usize)>,
    ) {
        let mut span = self.empty_span();
        span.place(slots, places);
        span.most = slots.most(0);
        words::same(slots.head, &mut span.words);
        slots.patch(&mut span.words);
        self.span(span, slots.count, |span| Step::Bytes { field, span });
    }

    /// Texts between offsets; the longest counts those below nulls too: there mostly is none.
    #[inline(always)]
    fn texts<T: Copy>(
        &mut self,
        number: usize,
        field: &Field<'_>,
        offsets: &[T],
        longest: usize,
        f: impl Fn(T) -> usize + Copy,
        slots: &Slots<'_>,
    ) -> Result<(), EncodeError> {
        let data = field.source();
        if longest >= u128::MOST - slots.head.len() {
            let mut span = self.empty_span();
            span.between(slots, offsets, f);
            return self.with_lengths(span, slots, number);
        }
        let lengths = between(offsets, f).map(|(_, len)| len);
        let places = &offsets[..slots.count];
        let narrow = places.iter().map(|at| u64::load(data, f(*at)));
        let wide = places.iter().map(|at| u128::load(data, f(*at)));
        self.short_texts(slots, longest, lengths, narrow, wide);
        Ok(())
    }

    /// Texts that fit into words, as words of either size.
    #[inline(always)]
    fn short_texts(
        &mut self,
        slots: &Slots<'_>,
        longest: usize,
        lengths: impl Iterator<Item = usize>,
        narrow: impl Iterator<Item = u64>,
        wide: impl Iterator<Item = u128>,
    ) {
        let most = slots.most(1 + longest);
        if most <= u64::MOST {
            let out = self.narrow(most);
            words::texts(narrow, lengths, slots.head, out);
            slots.patch(out);
        } else {
            let out = self.wide(most);
            words::texts(wide, lengths, slots.head, out);
            slots.patch(out);
        }
    }

    #[inline(always)]
    fn views(
        &mut self,
        number: usize,
        views: &[u128],
        slots: &Slots<'_>,
    ) -> Result<(), EncodeError> {
        let mut span = self.empty_span();
        for (len, view) in span.len.iter_mut().zip(views) {
            *len = *view as u32 as usize;
        }
        slots.clear(&mut span.len);
        let longest = span.longest(slots.count);
        if longest > INLINE {
            // What is in the views is the first source, so that short and long texts are copied alike: where both occur,
            // which one is next can't be foretold. For the same reason both places are computed, and one is chosen.
            let places = views.iter().zip(slots.from..).map(|(view, slot)| {
                let within = slot * size_of::<u128>() + INLINE_AT;
                let (buffer, at) = ((view >> 64) as u32, (view >> 96) as usize);
                let len = *view as u32 as usize;
                let is_within = len <= INLINE;
                (
                    select_unpredictable(is_within, 0, buffer.saturating_add(1)),
                    select_unpredictable(is_within, within, at),
                    len,
                )
            });
            span.place(slots, places);
            return self.with_lengths(span, slots, number);
        }
        let lengths = span.len[..slots.count].iter().copied();
        let narrow = views.iter().map(|view| u64::of_view(*view));
        let wide = views.iter().map(|view| u128::of_view(*view));
        self.short_texts(slots, longest, lengths, narrow, wide);
        self.spare(span);
        Ok(())
    }

    /// Adds a span of texts with the lengths that it says.
    #[inline(always)]
    fn with_lengths(
        &mut self,
        mut span: Box<Span>,
        slots: &Slots<'_>,
        field: usize,
    ) -> Result<(), EncodeError> {
        lengths(&mut span, slots)?;
        self.span(span, slots.count, |span| Step::Bytes { field, span });
        Ok(())
    }
}

/// Has a span's words say its lengths.
#[inline(always)]
fn lengths(span: &mut Span, slots: &Slots<'_>) -> Result<(), EncodeError> {
    let Span { words, len, .. } = span;
    let Some(longest) = numbers::lengths(&len[..slots.count], slots.head, words) else {
        return Err(EncodeError::TooLarge {
            bytes: span.longest(slots.count),
        });
    };
    slots.patch(words);
    span.most = slots.most(longest);
    Ok(())
}
