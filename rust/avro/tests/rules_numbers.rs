//! Numbers: a test a rule, and slow references for the sets of rows that pass.

mod common;

use apache_avro::types::Value;
use arrow_array::*;
use arrow_buffer::{NullBuffer, i256};
use common::rules::*;
use common::ten_to;
use proptest::prelude::*;

#[test]
fn floats_to_ints() {
    let nan = "NaN is not a whole number, and is not taken as null";
    let floats = [
        517.0,
        -0.0,
        2_147_483_647.0,
        0.5,
        f64::NAN,
        f64::INFINITY,
        2_147_483_648.0,
        -2_147_483_649.0,
    ];
    let expected = vec![
        Ok(Value::Int(517)),
        Ok(Value::Int(0)),
        Ok(Value::Int(i32::MAX)),
        no("not a whole number"),
        no(nan),
        no("infinite"),
        no("out of range of int"),
        no("out of range of int"),
    ];
    assert_eq!(
        run(Float64Array::from(floats.to_vec()), "\"int\""),
        expected
    );
    let longs = [
        -9_223_372_036_854_775_808.0,
        9_223_372_036_854_775_808.0,
        1e300,
        0.1,
    ];
    assert_eq!(
        run(Float64Array::from(longs.to_vec()), "\"long\""),
        vec![
            Ok(Value::Long(i64::MIN)),
            no("out of range of long"),
            no("out of range of long"),
            no("not a whole number")
        ]
    );
    // A null is a null, whatever lies below it.
    let below = Float64Array::new(
        vec![0.5, 1.0].into(),
        Some(NullBuffer::from(vec![false, true])),
    );
    assert_eq!(
        run(below.clone(), "\"int\""),
        vec![no(NULL), Ok(Value::Int(1))]
    );
    let union = |branch, v| Value::Union(branch, Box::new(v));
    assert_eq!(
        run(below, "[\"null\", \"int\"]"),
        vec![Ok(union(0, Value::Null)), Ok(union(1, Value::Int(1)))]
    );
    assert_eq!(
        run(Float32Array::from(vec![3.0, 3.5]), "\"long\""),
        vec![Ok(Value::Long(3)), no("not a whole number")]
    );
}

#[test]
fn decimals() {
    let ty = |p: usize, s: usize| {
        format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {p}, "scale": {s}}}"#)
    };
    let number = |v: &Result<Value, String>| match v {
        Ok(Value::Decimal(d)) => Ok(<Vec<u8>>::try_from(d).unwrap().iter().fold(
            if <Vec<u8>>::try_from(d).unwrap()[0] & 0x80 == 0 {
                0
            } else {
                -1_i128
            },
            |sum, b| (sum << 8) | i128::from(*b),
        )),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason.clone()),
    };
    let numbers = |found: Vec<Result<Value, String>>| found.iter().map(number).collect::<Vec<_>>();
    let range = "out of range of the decimal";
    let source = Decimal128Array::from(vec![12_345, -12_300, 99_999_999])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 2))),
        vec![Ok(12_345), Ok(-12_300), Ok(99_999_999)]
    );
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 4))),
        vec![Ok(1_234_500), Ok(-1_230_000), Ok(9_999_999_900)]
    );
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 0))),
        vec![
            no("would lose precision"),
            Ok(-123),
            no("would lose precision")
        ]
    );
    assert_eq!(
        numbers(run(source, &ty(5, 2))),
        vec![Ok(12_345), Ok(-12_300), no(range)]
    );
    let wide = Decimal256Array::from(vec![i256::from_i128(5), i256::MAX, i256::MIN])
        .with_precision_and_scale(76, 0)
        .unwrap();
    assert_eq!(
        numbers(run(wide, &ty(38, 0))),
        vec![Ok(5), no(range), no(range)]
    );
    assert_eq!(
        numbers(run(Int64Array::from(vec![-7, 1000]), &ty(3, 0))),
        vec![Ok(-7), no(range)]
    );
    let texts = StringArray::from(vec![
        "1.50", "-0.05", "+12", ".5", "1e3", "", "1.234", "99999",
    ]);
    assert_eq!(
        numbers(run(texts, &ty(5, 2))),
        vec![
            Ok(150),
            Ok(-5),
            Ok(1200),
            Ok(50),
            no(range),
            no("not a decimal number"),
            no("would lose precision"),
            no(range)
        ]
    );
    let fixed = r#"{"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 2, "scale": 0}"#;
    let small = Decimal128Array::from(vec![99, -99, 100])
        .with_precision_and_scale(3, 0)
        .unwrap();
    assert_eq!(numbers(run(small, fixed)), vec![Ok(99), Ok(-99), no(range)]);
    let to_int = Decimal128Array::from(vec![1200, 1250])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(
        run(to_int, "\"int\""),
        vec![Ok(Value::Int(12)), no("not a whole number")]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The rows that pass are those for which the slow reference, in 128 bits, says so.
    #[test]
    fn whole_floats_and_only_they(
        values in prop::collection::vec(prop_oneof![
            any::<f64>(), (-5_000..5_000_i32).prop_map(|v| f64::from(v) / 2.0),
            any::<i64>().prop_map(|v| v as f64), any::<i32>().prop_map(f64::from),
            Just(f64::NAN), Just(f64::NEG_INFINITY),
        ], 0..50),
        valid in prop::collection::vec(any::<bool>(), 50),
    ) {
        let nulls = NullBuffer::from(valid[..values.len()].to_vec());
        let array = Float64Array::new(values.clone().into(), Some(nulls));
        let fits = |v: f64, low: i128, high: i128| {
            v.is_finite() && v.trunc() == v && v.abs() < 1e30 && (low..=high).contains(&(v as i128))
        };
        for (i, found) in run(array.clone(), "\"int\"").into_iter().enumerate() {
            let expected = valid[i] && fits(values[i], i32::MIN.into(), i32::MAX.into());
            prop_assert_eq!(found.ok(), expected.then(|| Value::Int(values[i] as i32)));
        }
        for (i, found) in run(array, "\"long\"").into_iter().enumerate() {
            let expected = valid[i] && fits(values[i], i64::MIN.into(), i64::MAX.into());
            prop_assert_eq!(found.ok(), expected.then(|| Value::Long(values[i] as i64)));
        }
    }

    #[test]
    fn decimals_as_numbers_of_128_bits(
        values in prop::collection::vec(prop_oneof![-100_000..100_000_i128, -(10_i128.pow(18))..10_i128.pow(18)], 1..20),
        from in 0..6_i8, precision in 1..18_usize, scale in any::<prop::sample::Index>(),
    ) {
        let scale = scale.index(precision + 1);
        let array = Decimal128Array::from(values.clone()).with_precision_and_scale(38, from).unwrap();
        let ty = format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {precision}, "scale": {scale}}}"#);
        for (v, found) in values.into_iter().zip(run(array, &ty)) {
            // v / 10^from = expected / 10^scale
            let numerator = v * ten_to(scale);
            let whole = numerator % ten_to(from as usize) == 0;
            let moved = numerator / ten_to(from as usize);
            let expected = (whole && moved.abs() < ten_to(precision))
                .then(|| Value::Decimal(apache_avro::Decimal::from(common::decimal_bytes(moved, None))));
            prop_assert_eq!(found.ok(), expected);
        }
    }
}
