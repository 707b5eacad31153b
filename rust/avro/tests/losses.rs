//! Losses that a field declares: only there, only so, and only where nothing exact fits.

mod common;

use apache_avro::types::Value;
use arrow_array::*;
use arrow_schema::DataType;
use common::declared::*;
use common::rules::*;
use kappaflow_avro::*;

fn hundredths(v: &Result<Value, String>) -> Result<i64, String> {
    let Value::Decimal(decimal) = v.clone()? else {
        panic!("{v:?}")
    };
    let bytes = <Vec<u8>>::try_from(&decimal).unwrap();
    let sign = if bytes[0] < 0x80 { 0 } else { -1 };
    Ok(bytes.iter().fold(sign, |sum, b| sum << 8 | i64::from(*b)))
}

#[test]
fn losses_of_numbers() {
    let (round, truncate) = (&lossy("round"), &lossy("truncate"));
    let floats = Float64Array::from(vec![2.5, -2.5, 2.4, -2.9, 2_147_483_647.5, f64::NAN]);
    let int = |v| Ok(Value::Int(v));
    let (range, nan) = (
        no("out of range of int"),
        no("NaN is not a whole number, and is not taken as null"),
    );
    let rounded = vec![int(3), int(-3), int(2), int(-3), range.clone(), nan.clone()];
    assert_eq!(run_with(floats.clone(), "\"int\"", round), rounded);
    let cut = vec![int(2), int(-2), int(2), int(-2), int(i32::MAX), nan];
    assert_eq!(run_with(floats, "\"int\"", truncate), cut);

    let texts = StringArray::from(vec!["2.5", "-2.5", "1e-3", "1e10", "x"]);
    let rounded = vec![int(3), int(-3), int(0), range, no("not a number")];
    assert_eq!(run_with(texts, "\"int\"", round), rounded);

    let decimals = |values: Vec<i128>| {
        Decimal128Array::from(values)
            .with_precision_and_scale(10, 3)
            .unwrap()
    };
    let array = decimals(vec![2_500, -2_500, 2_499, 5]);
    let long = |v| Ok(Value::Long(v));
    let rounded = vec![long(3), long(-3), long(2), long(0)];
    assert_eq!(run_with(array.clone(), "\"long\"", round), rounded);
    let cut = vec![long(2), long(-2), long(2), long(0)];
    assert_eq!(run_with(array, "\"long\"", truncate), cut);
    let of = |found: Vec<Result<Value, String>>| found.iter().map(hundredths).collect::<Vec<_>>();
    let array = decimals(vec![1_235, -1_235, 1_234, 999_995, 999_994]);
    let found = of(run_with(array.clone(), DECIMAL, round));
    let range = no("out of range of the decimal");
    let expected = vec![Ok(124), Ok(-124), Ok(123), range.clone(), Ok(99_999)];
    assert_eq!(found, expected);
    let found = of(run_with(array, DECIMAL, truncate));
    assert_eq!(found, [Ok(123), Ok(-123), Ok(123), Ok(99_999), Ok(99_999)]);
    // A float by the fewest digits that read back as it: 2.675 is a little less, and 0.29 is no 0.28999.
    let floats = Float64Array::from(vec![2.675, 0.29, -0.005, 1e300, f64::INFINITY]);
    let found = of(run_with(floats.clone(), DECIMAL, round));
    assert_eq!(found[..4], [Ok(268), Ok(29), Ok(-1), range]);
    assert_eq!(found[4], no("infinite"));
    let found = of(run_with(floats, DECIMAL, truncate));
    assert_eq!(found[..3], [Ok(267), Ok(29), Ok(0)]);

    let inexact = Float64Array::from(vec![0.1, 1e300]);
    let found = run_with(inexact, "\"float\"", round);
    assert_eq!(
        found,
        vec![Ok(Value::Float(0.1)), no("out of range of float")]
    );
    let long = Int64Array::from(vec![(1 << 53) + 1]);
    let found = run_with(long, "\"double\"", round);
    assert_eq!(found, vec![Ok(Value::Double(9_007_199_254_740_992.0))]);
}

#[test]
fn losses_of_times() {
    let (round, truncate) = (&lossy("round"), &lossy("truncate"));
    let instants = TimestampMicrosecondArray::from(vec![1_500, -1_500, 1_499]).with_timezone("UTC");
    let millis = |v: [i64; 3]| ok(v, Value::TimestampMillis);
    assert_eq!(
        run_with(instants.clone(), MILLIS, round),
        millis([2, -1, 1])
    );
    assert_eq!(run_with(instants, MILLIS, truncate), millis([1, -2, 1]));
    let clock = Time64NanosecondArray::from(vec![1_500_000, 86_399_999_999_999]);
    let ty = r#"{"type": "int", "logicalType": "time-millis"}"#;
    let found = run_with(clock.clone(), ty, round);
    assert_eq!(
        found,
        vec![Ok(Value::TimeMillis(2)), no("not a time of day")]
    );
    let found = run_with(clock, ty, truncate);
    assert_eq!(found, ok([1, 86_399_999], Value::TimeMillis));
    let readings = TimestampSecondArray::from(vec![86_399, -1]);
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    assert_eq!(run_with(readings, date, truncate), ok([0, -1], Value::Date));
    let texts = StringArray::from(vec!["1970-01-01T00:00:00.0015Z"]);
    assert_eq!(
        run_with(texts, MILLIS, round),
        ok([2], Value::TimestampMillis)
    );
}

#[test]
fn a_loss_is_taken_only_where_no_branch_is_exact() {
    let long = Int64Array::from(vec![(1 << 53) + 1]);
    for ty in [r#"["null", "double", "long"]"#, r#"["float", "long"]"#] {
        let error = refused(DataType::Int64, ty, &lossy("round"));
        assert!(matches!(error, PlanError::Useless { .. }), "{error}");
        let found = run(long.clone(), ty);
        let Ok(Value::Union(_, value)) = &found[0] else {
            panic!("{found:?}");
        };
        assert_eq!(**value, Value::Long((1 << 53) + 1), "{ty}");
    }
    let found = run_with(long, r#"["null", "double"]"#, &lossy("round"));
    assert!(found[0].is_ok(), "{found:?}");
}
