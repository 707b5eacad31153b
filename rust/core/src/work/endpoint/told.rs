//! What a call says of its records beside them, as headers or as metadata. Pure.

use sha2::{Digest, Sha256};

use super::calls::Item;
use crate::identity::Identity;
use crate::job::template::{Escape, Template};
use crate::snapshot::hex;
use crate::work::task::Record;

/// The same call has the same key, however often it is made: `job/split/seq`, of several records `job/` and a digest.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that a call is a replay, and of which job.
pub const REPLAY: &str = "x-kappaflow-replay";
/// Headers of a record that go on to the service: W3C Trace Context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// Says as of when the record is meant.
pub const AS_OF: &str = "x-kappaflow-as-of";

/// The key of a record.
pub fn idempotency_key(of: &Identity) -> String {
    format!("{}/{}/{}", of.job, of.split, of.seq)
}

/// The keys of records, without the job: `split/seq,split/seq`.
pub fn keys(records: &[(&Record, &Item)]) -> String {
    let of = |(record, _): &(&Record, &Item)| {
        let identity = record.identity;
        format!("{}/{}", identity.split, identity.seq)
    };
    records.iter().map(of).collect::<Vec<_>>().join(",")
}

/// The key of a call. The same records in the same order are the same call.
pub fn key_of(records: &[(&Record, &Item)]) -> Option<String> {
    let (first, _) = records.first()?;
    Some(match records.len() {
        1 => idempotency_key(&first.identity),
        _ => {
            let digest = hex(&Sha256::digest(keys(records)));
            format!("{}/{digest}", first.identity.job)
        }
    })
}

/// The headers of Trace Context that all of the records have, and with the same value.
pub fn trace<'r>(records: &[(&'r Record, &Item)]) -> impl Iterator<Item = (&'static str, &'r str)> {
    TRACE.into_iter().filter_map(|name| {
        let mut values = records.iter().map(|(record, _)| record.text_header(name));
        let first = values.next()??;
        values
            .all(|value| value == Some(first))
            .then_some((name, first))
    })
}

/// `service.as_of`: the field that says as of when a record is meant.
#[derive(Debug)]
pub struct AsOf(Template);

impl AsOf {
    /// # Errors
    /// Why this can be no field's name.
    pub fn new(field: &str) -> Result<Self, String> {
        Template::parse(&format!("{{{field}}}")).map(Self)
    }

    /// Of a record, if it says it.
    pub fn of(&self, item: &Item) -> Option<String> {
        self.0.present(&item.row, Escape::None)
    }

    /// Of records that all say the same.
    pub fn of_all(&self, records: &[(&Record, &Item)]) -> Option<String> {
        let mut texts = records.iter().map(|(_, item)| self.of(item));
        let first = texts.next()??;
        texts
            .all(|text| text.as_ref() == Some(&first))
            .then_some(first)
    }
}
