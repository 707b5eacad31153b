//! Fields that declare something.

use arrow_schema::{DataType, Field, Schema};
use kappaflow_avro::*;

use super::rules::schema_of;

pub const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
pub const DECIMAL: &str =
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}"#;

/// Options as a job file has them, `f` declared so.
pub fn declared(said: serde_json::Value) -> PlanOptions {
    serde_json::from_value(serde_json::json!({"fields": {"f": said}})).unwrap()
}

pub fn lossy(how: &str) -> PlanOptions {
    declared(serde_json::json!({"lossy": how}))
}

pub fn plan(arrow: DataType, json: &str, options: &PlanOptions) -> Result<Vec<PlanRow>, PlanError> {
    let table = Schema::new(vec![Field::new("f", arrow, true)]);
    let avro = AvroSchema::parse(json).unwrap();
    Ok(CoercionPlan::new(&table, &avro, options)?.describe())
}

pub fn refused(arrow: DataType, ty: &str, options: &PlanOptions) -> PlanError {
    plan(arrow, &schema_of(ty), options).unwrap_err()
}
