//! Values that take slots of one size.

use arrow_buffer::i256;

use super::decimal;
use super::fault::Fault;
use super::read::{DecimalRead, Number};
use super::source::Source;

/// A value on the wire, as its slot. This is a type each and no closure, so that the loops have it compiled into them.
pub(super) trait Value {
    type Slot: Copy + Default;

    fn read<'a>(&self, r: &mut impl Source<'a>) -> Result<Self::Slot, Fault>;
}

macro_rules! values {
    ($($name:ident $(($of:ty))? -> $slot:ty = |$self:pat_param, $r:ident| $read:expr;)+) => {$(
        pub(super) struct $name $((pub(super) $of))?;

        impl Value for $name {
            type Slot = $slot;

            #[inline(always)]
            fn read<'a>(&self, $r: &mut impl Source<'a>) -> Result<$slot, Fault> {
                let $self = self;
                $read
            }
        }
    )+};
}

values! {
    Boolean -> bool = |_, r| match r.byte()? {
        byte @ (0 | 1) => Ok(byte == 1),
        byte => Err(no_boolean(*r, byte)),
    };
    Int -> i32 = |_, r| r.int();
    // A time of day is less than an int, whatever its unit.
    IntAsInt(Number) -> i32 = |Self(number), r| {
        let v = r.int()?;
        let v = number.of(*r, v.into())?;
        r.in_int(v)
    };
    IntAsLong(Number) -> i64 = |Self(number), r| {
        let v = r.int()?;
        number.of(*r, v.into())
    };
    Long -> i64 = |_, r| r.long();
    LongAs(Number) -> i64 = |Self(number), r| {
        let v = r.long()?;
        number.of(*r, v)
    };
    IntAsFloat -> f32 = |_, r| Ok(r.int()? as f32);
    LongAsFloat -> f32 = |_, r| Ok(r.long()? as f32);
    Float -> f32 = |_, r| Ok(f32::from_le_bytes(r.array()?));
    IntAsDouble -> f64 = |_, r| Ok(r.int()?.into());
    LongAsDouble -> f64 = |_, r| Ok(r.long()? as f64);
    FloatAsDouble -> f64 = |_, r| Ok(f32::from_le_bytes(r.array()?).into());
    Double -> f64 = |_, r| Ok(f64::from_le_bytes(r.array()?));
    Narrow(DecimalRead) -> i128 = |Self(decimal), r| {
        // Most are written as short as they can be, and have few digits.
        if decimal.fixed.is_none()
            && let Some(v) = r.big_endian()
        {
            return match v.unsigned_abs() < decimal.limit {
                true => Ok(v.into()),
                false => Err(decimal.refusal(*r)),
            };
        }
        let bytes = decimal.bytes(r)?;
        match decimal::narrow(bytes, decimal.precision) {
            Some(v) => Ok(v),
            None => Err(decimal.refusal(*r)),
        }
    };
    Wide(DecimalRead) -> i256 = |Self(decimal), r| {
        let bytes = decimal.bytes(r)?;
        decimal::wide(bytes, decimal.precision).ok_or_else(|| decimal.refusal(*r))
    };
}

#[cold]
#[inline(never)]
fn no_boolean<'a>(r: impl Source<'a>, byte: u8) -> Fault {
    r.invalid(format!("{byte:#04x} is not a boolean"))
}

impl Number {
    #[inline(always)]
    fn of<'a>(self, r: impl Source<'a>, v: i64) -> Result<i64, Fault> {
        let Some(scaled) = v.checked_mul(self.multiply) else {
            return Err(refused(r, v, "out of range in the reader's unit"));
        };
        let scaled = match self.divide {
            1 => scaled,
            by if scaled % by == 0 => scaled / by,
            _ => return Err(refused(r, v, "not a whole number of the reader's unit")),
        };
        match self.day {
            Some(day) if !(0..day).contains(&scaled) => Err(refused(r, v, "not a time of day")),
            _ => Ok(scaled),
        }
    }
}

#[cold]
#[inline(never)]
fn refused<'a>(r: impl Source<'a>, v: i64, why: &str) -> Fault {
    r.invalid(format!("{v} is {why}"))
}

impl DecimalRead {
    #[inline(always)]
    fn bytes<'a>(self, r: &mut impl Source<'a>) -> Result<&'a [u8], Fault> {
        match self.fixed {
            None => r.bytes(),
            Some(size) => r.take(size),
        }
    }

    #[cold]
    #[inline(never)]
    fn refusal<'a>(self, r: impl Source<'a>) -> Fault {
        r.invalid(format!(
            "not a decimal of at most {} digits",
            self.precision
        ))
    }
}
