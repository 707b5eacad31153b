//! The loops over messages side by side, compiled twice. A wheel has to run on every x86-64; with the instructions of 2013
//! the same source copies and shifts in fewer steps.

use super::block::Across;
use super::column::Store;
use super::fault::Fault;
use super::feed::Optional;
use super::read::Read;

/// [`Read::leaf`], as this processor does it best.
pub(super) fn leaf(
    read: &Read,
    store: &mut Store,
    optional: Optional<'_>,
    across: Across<'_, '_>,
) -> Result<(), Fault> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
    {
        #[expect(
            unsafe_code,
            reason = "there is no safe way to call what is compiled for a processor that was asked for"
        )]
        // SAFETY: the processor was just found to have every instruction that the function is compiled for.
        return unsafe { leaf_with_avx2(read, store, optional, across) };
    }
    read.leaf(store, optional, across)
}

/// Safe code: all that is inlined here is compiled for these instructions too.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn leaf_with_avx2(
    read: &Read,
    store: &mut Store,
    optional: Optional<'_>,
    across: Across<'_, '_>,
) -> Result<(), Fault> {
    read.leaf(store, optional, across)
}

#[cfg(test)]
mod tests {
    use super::super::block::Block;
    use super::super::column::Column;
    use super::super::read::{Action, Op, Step};
    use super::super::resolve;
    use super::*;
    use crate::schema::AvroSchema;
    use crate::wire::push_long;

    /// Tests run on new processors: this is what runs on old ones.
    #[test]
    fn both_forms_read_the_same() {
        let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":30,"scale":2}"#;
        for ty in ["\"long\"", "\"double\"", "\"bytes\"", decimal] {
            let json =
                format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{ty}}}]}}"#);
            let schema = AvroSchema::parse(&json).unwrap();
            let steps = resolve::record(schema.record(), schema.record()).unwrap();
            let [Step::Read(_, Op::One(Action::Value(read)))] = &steps[..] else {
                panic!("{steps:?}");
            };
            let messages: Vec<Vec<u8>> = (0..128).map(|i| message(ty, i)).collect();
            let made = [true, false].map(|new| {
                let mut block = Block::default();
                assert!(messages.iter().all(|message| block.add(message)));
                let mut column = Column::new(&schema.fields()[0].ty, String::new()).unwrap();
                let all = block.read(|across| match new {
                    true => leaf(read, &mut column.store, None, across),
                    false => read.leaf(&mut column.store, None, across),
                });
                assert!(all.is_some(), "{ty}");
                column.finish().unwrap()
            });
            assert_eq!(made[0].to_data(), made[1].to_data(), "{ty}");
        }
    }

    /// Of each type one of every length.
    fn message(ty: &str, i: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match ty {
            "\"long\"" => push_long((i64::MIN >> (i % 64)) ^ i as i64, &mut out),
            "\"double\"" => out.extend_from_slice(&(i as f64).to_le_bytes()),
            _ => {
                let length = if ty == "\"bytes\"" { i } else { i % 12 + 1 };
                push_long(length as i64, &mut out);
                out.extend((0..length).map(|byte| (7 * byte + i) as u8));
            }
        }
        out
    }
}
