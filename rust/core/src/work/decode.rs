//! Ingress records back into rows, each by the schema that it was written with, as the job's ingress schema reads it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use kappaflow_avro::framing::{self, SchemaKey};
use kappaflow_avro::{AvroSchema, Decoder};

use super::partitions::Record;
use crate::error::{Error, Result};
use crate::registry::{self, RegistryError, SchemaRegistry};

/// Decoders by the writer's schema, made when one is first met.
pub struct Decoders {
    registry: Arc<dyn SchemaRegistry>,
    /// What the service is given, whichever compatible schema a record was written with.
    reader: AvroSchema,
    by_schema: HashMap<SchemaKey, std::result::Result<Decoder, String>>,
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
        }
    }

    /// Rows by schema.
    ///
    /// # Errors
    /// If the registry can't be asked.
    pub fn decode(&mut self, records: &[Record]) -> Result<Decoded> {
        let mut by_schema: Vec<Datums<'_>> = Vec::new();
        let mut undecodable = Vec::new();
        for (row, record) in records.iter().enumerate() {
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
        if !self.by_schema.contains_key(&id) {
            let decoder = match registry::by_ref(self.registry.as_ref(), id) {
                Ok(found) => AvroSchema::parse(&found.schema)
                    .map_err(|e| e.to_string())
                    .and_then(|writer| {
                        Decoder::with_reader(&writer, &self.reader).map_err(|e| e.to_string())
                    }),
                // The registry answered, and has no such schema: the record is at fault.
                Err(e @ (RegistryError::NotFound { .. } | RegistryError::Refused { .. })) => {
                    Err(e.to_string())
                }
                Err(e) => return Err(e.into()),
            };
            self.by_schema.insert(id, decoder);
        }
        Ok(match self.by_schema.get_mut(&id) {
            Some(Ok(decoder)) => Ok(decoder),
            Some(Err(reason)) => Err(reason),
            None => Err("is not known"),
        })
    }
}
