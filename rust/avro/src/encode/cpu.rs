//! The loops over blocks, compiled twice. A wheel has to run on every x86-64, and those of 2003 can't shift each lane by a
//! count of its own, nor count leading zeros: with the instructions of 2013 the same source takes a fifth less time.

use super::fields::Field;
use super::stage::Stage;
use crate::error::EncodeError;

/// [`Stage::fill_all`], as this processor does it best.
pub(super) fn fill(
    stage: &mut Stage,
    fields: &[Field<'_>],
    from: usize,
    count: usize,
) -> Result<(), EncodeError> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
    {
        #[expect(
            unsafe_code,
            reason = "there is no safe way to call what is compiled for a processor that was asked for"
        )]
        // SAFETY: the processor was just found to have every instruction that the function is compiled for.
        return unsafe { fill_with_avx2(stage, fields, from, count) };
    }
    stage.fill_all(fields, from, count)
}

/// Safe code: all that is inlined here is compiled for these instructions too.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn fill_with_avx2(
    stage: &mut Stage,
    fields: &[Field<'_>],
    from: usize,
    count: usize,
) -> Result<(), EncodeError> {
    stage.fill_all(fields, from, count)
}

#[cfg(test)]
mod tests {
    use super::super::fields::flatten;
    use super::super::words::BLOCK;
    use super::*;
    use crate::gate::{Data, Lane};
    use crate::plan::Branch;

    /// Tests run on new processors: this is what runs on old ones.
    #[test]
    fn both_forms_make_the_same_words() {
        let longs: Vec<i64> = (0..BLOCK as u32)
            .map(|i| (i64::MIN >> (i % 64)) ^ i64::from(i))
            .collect();
        let ints = |bits: u32| -> Vec<i32> { longs.iter().map(|v| (*v >> bits) as i32).collect() };
        let data = [0, 36, 43, 50, 57]
            .map(|bits| Data::Int(ints(bits).into()))
            .into_iter()
            .chain([0, 8, 40, 50].map(|bits| {
                let fewer: Vec<i64> = longs.iter().map(|v| v >> bits).collect();
                Data::Long(fewer.into())
            }))
            .chain([0, 16].map(|bits| {
                let fewer: Vec<i64> = longs.iter().map(|v| v >> bits).collect();
                Data::Unscaled(fewer.into())
            }));
        for data in data {
            let lane = Lane {
                branch: Branch::Union {
                    null: None,
                    value: 2,
                },
                nulls: None,
                data,
            };
            let mut fields = Vec::new();
            flatten(&lane, None, &mut fields);
            let (mut old, mut new) = (Stage::default(), Stage::default());
            old.fill_all(&fields, 0, BLOCK).unwrap();
            fill(&mut new, &fields, 0, BLOCK).unwrap();
            assert_eq!(old.narrow.0, new.narrow.0, "{lane:?}");
            assert_eq!(old.wide.0, new.wide.0, "{lane:?}");
        }
    }
}
