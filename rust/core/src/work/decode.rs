//! Ingress records back into rows, each by the schema that it was written with, as the job's ingress schema reads it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use kappaflow_avro::framing::{self, SchemaKey};
use kappaflow_avro::{AvroSchema, Decoder};

use super::task::Record;
use crate::error::{Error, Result};
use crate::registry::{self, RegistryError, SchemaRegistry};

/// How long a schema that can't be had stays so: it may be registered a moment after its first record.
const REFUSED_FOR: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 10_000 });
/// Schemas that are remembered as refused; damaged records may name any number of them.
const REFUSED: usize = 1_000;

/// Decoders by the writer's schema, made when one is first met.
pub struct Decoders {
    registry: Arc<dyn SchemaRegistry>,
    /// What the service is given, whichever compatible schema a record was written with.
    reader: AvroSchema,
    by_schema: HashMap<SchemaKey, Decoder>,
    /// Why there is no decoder, and since when.
    refused: HashMap<SchemaKey, (Instant, String)>,
}

/// Numbers of the records that share a schema, and their rows.
pub type Group = (Vec<usize>, RecordBatch);

/// The groups, and the records that can't be read with why not.
pub type Decoded = (Vec<Group>, Vec<(usize, String)>);

/// What records of one schema hold: their numbers and their datums.
type Datums<'a> = (SchemaKey, Vec<usize>, Vec<&'a [u8]>);

impl Decoders {
    pub fn new(registry: Arc<dyn SchemaRegistry>, reader: AvroSchema) -> Self {
        Self {
            registry,
            reader,
            by_schema: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Rows by schema.
    ///
    /// # Errors
    /// If the registry can't be asked.
    pub fn decode<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) -> Result<Decoded> {
        let mut by_schema: Vec<Datums<'_>> = Vec::new();
        let mut undecodable = Vec::new();
        for (row, record) in records.into_iter().enumerate() {
            match framing::read(record.schema.as_deref(), &record.payload) {
                Ok((id, datum)) => match by_schema.iter_mut().find(|(i, ..)| *i == id) {
                    Some((_, rows, datums)) => {
                        rows.push(row);
                        datums.push(datum);
                    }
                    None => by_schema.push((id, vec![row], vec![datum])),
                },
                Err(e) => undecodable.push((row, e.to_string())),
            }
        }
        let mut groups = Vec::with_capacity(by_schema.len());
        for (id, mut rows, datums) in by_schema {
            match self.decoder(id)? {
                Err(reason) => {
                    let why = format!("schema {id}: {reason}");
                    undecodable.extend(rows.into_iter().map(|row| (row, why.clone())));
                }
                Ok(decoder) => {
                    // From the end, so that places before it stay what they are.
                    for (i, e) in decoder.push_all(datums).into_iter().rev() {
                        if i < rows.len() {
                            undecodable.push((rows.remove(i), format!("schema {id}: {e}")));
                        }
                    }
                    let batch = decoder.flush().map_err(|e| Error::Schema {
                        what: format!("of {id}"),
                        reason: e.to_string(),
                    })?;
                    if !rows.is_empty() {
                        groups.push((rows, batch));
                    }
                }
            }
        }
        Ok((groups, undecodable))
    }

    /// The decoder for what was written with a schema, or why there is none.
    fn decoder(&mut self, id: SchemaKey) -> Result<std::result::Result<&mut Decoder, &str>> {
        if !self.by_schema.contains_key(&id)
            && let Some(reason) = self.learn(id)?
        {
            let refused = self.refused.entry(id).or_insert((Instant::now(), reason));
            return Ok(Err(&refused.1));
        }
        Ok(self.by_schema.get_mut(&id).ok_or("is not known"))
    }

    /// Makes the decoder, or says why there can't be one.
    fn learn(&mut self, id: SchemaKey) -> Result<Option<String>> {
        match self.refused.get(&id) {
            Some((since, reason)) if since.elapsed() < REFUSED_FOR => {
                return Ok(Some(reason.clone()));
            }
            Some(_) => drop(self.refused.remove(&id)),
            None if self.refused.len() >= REFUSED => self.refused.clear(),
            None => {}
        }
        // A registry's calls block, and nothing may in a driver's thread, which runs a runtime.
        let registry = self.registry.as_ref();
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| registry::by_ref(registry, id));
            asking.join()
        });
        let asked = asked.map_err(|_| Error::Schema {
            what: format!("of {id}"),
            reason: "the registry's client panicked".into(),
        })?;
        let found = match asked {
            Ok(found) => found,
            // The registry answered, and has no such schema: the record is at fault.
            Err(e @ (RegistryError::NotFound { .. } | RegistryError::Unusable { .. })) => {
                return Ok(Some(e.to_string()));
            }
            Err(e) => return Err(e.into()),
        };
        let decoder = AvroSchema::parse(&found.schema)
            .map_err(|e| e.to_string())
            .and_then(|writer| {
                Decoder::with_reader(&writer, &self.reader).map_err(|e| e.to_string())
            });
        match decoder {
            Ok(decoder) => {
                self.by_schema.insert(id, decoder);
                Ok(None)
            }
            Err(reason) => Ok(Some(reason)),
        }
    }
}
