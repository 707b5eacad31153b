//! What rows are routed by: their key, their partition, their time; made of their columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoder, FieldDeclaration, Lossy, PlanOptions};

use super::keys::{Former, KeySchema, Keys};
use super::order;
use crate::error::{Error, Result};
use crate::job::{KeyFormat, Topics};

/// What a row is sent with, besides its payload.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// Key columns, by their names or those of the fields that they become; empty: no record has a key.
    pub key: Vec<String>,
    pub key_format: KeyFormat,
    /// Of keys in Avro.
    pub key_schema: Option<Arc<KeySchema>>,
    /// Column that names the partition of each row.
    pub partition: Option<String>,
    /// Column that is the time of each record.
    pub timestamp: Option<String>,
    /// Column in whose order rows are published.
    pub order: Option<String>,
    /// Times further ahead than this, in milliseconds, are refused by the broker (`message.timestamp.after.max.ms`).
    pub ahead_ms: i64,
}

impl Routing {
    /// What a job says, before the schema of its keys is settled and its topic looked at.
    pub fn of(topics: &Topics) -> Self {
        Self {
            key: topics.key.clone(),
            key_format: topics.key_format,
            key_schema: None,
            partition: topics.partition_column.clone(),
            timestamp: topics.timestamp_column.clone(),
            order: topics.order_by.clone(),
            ahead_ms: 0,
        }
    }

    /// Every column that is named here.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let key = self.key.iter().map(|name| ("topics.key", name));
        let partition = self
            .partition
            .iter()
            .map(|name| ("topics.partition_column", name));
        let timestamp = self
            .timestamp
            .iter()
            .map(|name| ("topics.timestamp_column", name));
        let order = self.order.iter().map(|name| (order::SETTING, name));
        key.chain(partition).chain(timestamp).chain(order)
    }
}

/// Position of a column that a setting names, by its own name or by that of a field that is declared to come from it.
///
/// # Errors
/// [`Error::Schema`] if there is no such column.
pub fn position(arrow: &Schema, plan: &PlanOptions, setting: &str, name: &str) -> Result<usize> {
    let declared = plan.fields.get(name).and_then(|d| d.from.as_ref());
    declared
        .and_then(|from| arrow.index_of(from).ok())
        .or_else(|| arrow.index_of(name).ok())
        .ok_or_else(|| Error::Schema {
            what: "of the source".into(),
            reason: format!(
                "has no column {name:?}, which {setting} names; it has: {}",
                super::encode::names(arrow)
            ),
        })
}

/// A row that can't be routed: column, value and why.
pub type Refused = (String, String, String);

/// What the rows of a batch are sent with.
#[derive(Debug, Default)]
pub struct Routes {
    /// By number in the list of rows that was asked for.
    pub keys: Keys,
    /// By row of the batch; empty: by key, or spread.
    pub partitions: Vec<i64>,
    /// By row of the batch, in milliseconds since 1970; empty: the time of sending.
    pub timestamps: Vec<i64>,
    /// By row of the batch.
    pub refused: BTreeMap<u32, Refused>,
}

/// Makes routes for batches of one Arrow schema.
pub struct Router {
    former: Option<Former>,
    partition: Option<Longs>,
    timestamp: Option<Longs>,
    partitions: i64,
    ahead_ms: i64,
}

impl Router {
    /// # Errors
    /// [`Error::Schema`] if a column is missing or can't be what it is named for; [`Error::Plan`].
    pub fn new(
        routing: &Routing,
        partitions: u32,
        arrow: &Schema,
        avro: &AvroSchema,
        plan: &PlanOptions,
    ) -> Result<Self> {
        let former = match routing.key.is_empty() {
            true => None,
            false => Some(Former::new(routing, arrow, avro, plan)?),
        };
        let longs = |setting: &str, name: &Option<String>, ty: &str| {
            let longs = |name: &String| {
                let at = position(arrow, plan, setting, name)?;
                let time = setting == TIMESTAMP;
                Longs::new(arrow.field(at), at, ty, plan.fields.get(name), time).map_err(|e| {
                    Error::Schema {
                        what: "of the source".into(),
                        reason: format!("has a column {name:?} that {setting} can't be: {e}"),
                    }
                })
            };
            name.as_ref().map(longs).transpose()
        };
        Ok(Self {
            former,
            partition: longs(PARTITION, &routing.partition, r#""int""#)?,
            timestamp: longs(TIMESTAMP, &routing.timestamp, MILLIS)?,
            partitions: i64::from(partitions),
            ahead_ms: routing.ahead_ms,
        })
    }

    /// What the batch's `rows` are sent with; `now_ms` is the present time in milliseconds since 1970.
    ///
    /// # Errors
    /// Why a column as a whole can't be read.
    pub fn route(
        &mut self,
        batch: &RecordBatch,
        rows: &[u32],
        now_ms: i64,
    ) -> Result<Routes, String> {
        let mut routes = Routes::default();
        if let Some(former) = &mut self.former {
            routes.keys = former.keys(batch, rows, &mut routes.refused)?;
        }
        let partitions = self.partitions;
        if let Some(longs) = &mut self.partition {
            routes.partitions = longs.read(batch, &mut routes.refused, |v| {
                (!(0..partitions).contains(&v))
                    .then(|| format!("is no partition: the topic has {partitions}, from 0"))
            })?;
        }
        let latest = now_ms.saturating_add(self.ahead_ms);
        if let Some(longs) = &mut self.timestamp {
            routes.timestamps = longs.read(batch, &mut routes.refused, |v| match v {
                // A client takes 0 for the time of sending.
                ..=0 => Some(
                    "is not after the beginning of 1970, as the time of a record must be".into(),
                ),
                v if v > latest => Some(
                    "is further ahead than the topic allows (message.timestamp.after.max.ms)"
                        .into(),
                ),
                _ => None,
            })?;
        }
        Ok(routes)
    }
}

const PARTITION: &str = "topics.partition_column";
const TIMESTAMP: &str = "topics.timestamp_column";
const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;

/// A column as whole numbers, by the rules by which it would become a field of such a type.
struct Longs {
    encoder: Encoder,
    at: usize,
}

impl Longs {
    fn new(
        column: &Field,
        at: usize,
        ty: &str,
        declared: Option<&FieldDeclaration>,
        time: bool,
    ) -> Result<Self, String> {
        let json = format!(
            r#"{{"type":"record","name":"Route","fields":[{{"name":"value","type":{ty}}}]}}"#
        );
        let avro = AvroSchema::parse(&json).map_err(|e| e.to_string())?;
        // A record's time has no finer unit than this; the payload has the value as it is. What is declared of the field
        // is used as far as it means something here, where declarations without a meaning are errors.
        let zone = declared.and_then(|d| d.zone.clone());
        let columns = Schema::new(vec![column.clone()]);
        let plan = |zone: &Option<String>, lossy| {
            let declaration = FieldDeclaration {
                from: Some(column.name().clone()),
                zone: zone.clone(),
                lossy,
                ..FieldDeclaration::default()
            };
            let options = PlanOptions {
                fields: BTreeMap::from([("value".to_owned(), declaration)]),
                ..PlanOptions::default()
            };
            CoercionPlan::new(&columns, &avro, &options)
        };
        let cut = time.then_some(Lossy::Truncate);
        let plan = plan(&zone, cut)
            .or_else(|_| plan(&zone, None))
            .or_else(|_| plan(&None, cut))
            .or_else(|_| plan(&None, None))
            .map_err(|e| e.to_string())?;
        // Nothing before the number.
        let encoder = Encoder::new(plan, Frame::Guid);
        Ok(Self { encoder, at })
    }

    /// The number of each row of the batch; rows without one, or with one that is `wrong`, are refused.
    fn read(
        &mut self,
        batch: &RecordBatch,
        refused: &mut BTreeMap<u32, Refused>,
        wrong: impl Fn(i64) -> Option<String>,
    ) -> Result<Vec<i64>, String> {
        let column = batch.project(&[self.at]).map_err(|e| e.to_string())?;
        let encoded = self.encoder.encode(&column).map_err(|e| e.to_string())?;
        let mut values = vec![0; batch.num_rows()];
        let name = column.schema_ref().field(0).name();
        for (row, datum) in encoded.iter() {
            let value = zigzag(datum);
            if let Some(slot) = values.get_mut(row as usize) {
                *slot = value;
            }
            if let Some(reason) = wrong(value) {
                refused
                    .entry(row)
                    .or_insert_with(|| (name.clone(), value.to_string(), reason));
            }
        }
        for reject in encoded.rejects {
            refused
                .entry(reject.row)
                .or_insert((reject.column, reject.value, reject.reason));
        }
        Ok(values)
    }
}

/// An Avro long, as the encoder has just written it.
fn zigzag(datum: &[u8]) -> i64 {
    let bits = datum
        .iter()
        .rev()
        .fold(0_u64, |bits, byte| bits << 7 | u64::from(byte & 0x7f));
    (bits >> 1) as i64 ^ -((bits & 1) as i64)
}
