//! Ingress records back into rows, each by the schema that it was written with.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use kappaflow_avro::framing::{self, SchemaRef};
use kappaflow_avro::{AvroSchema, Decoder};

use super::partitions::Record;
use crate::error::{Error, Result};
use crate::registry::{self, RegistryError, SchemaRegistry};

/// Decoders by schema, made when one is first met.
pub struct Decoders {
    registry: Arc<dyn SchemaRegistry>,
    by_schema: HashMap<SchemaRef, std::result::Result<Decoder, String>>,
}

/// Numbers of the records that share a schema, and their rows.
pub type Group = (Vec<usize>, RecordBatch);

/// The groups, and the records that can't be read with why not.
pub type Decoded = (Vec<Group>, Vec<(usize, String)>);

impl Decoders {
    pub fn new(registry: Arc<dyn SchemaRegistry>) -> Self {
        Self {
            registry,
            by_schema: HashMap::new(),
        }
    }

    /// Rows by schema.
    ///
    /// # Errors
    /// If the registry can't be asked.
    pub fn decode(&mut self, records: &[Record]) -> Result<Decoded> {
        let mut rows_by_schema: Vec<(SchemaRef, Vec<usize>)> = Vec::new();
        let mut undecodable = Vec::new();
        for (row, record) in records.iter().enumerate() {
            match self.push(record)? {
                Ok(id) => match rows_by_schema.iter_mut().find(|(i, _)| *i == id) {
                    Some((_, rows)) => rows.push(row),
                    None => rows_by_schema.push((id, vec![row])),
                },
                Err(why) => undecodable.push((row, why)),
            }
        }
        let mut groups = Vec::with_capacity(rows_by_schema.len());
        for (id, rows) in rows_by_schema {
            if let Some(Ok(decoder)) = self.by_schema.get_mut(&id) {
                let batch = decoder.flush().map_err(|e| Error::Schema {
                    what: format!("of {id}"),
                    reason: e.to_string(),
                })?;
                groups.push((rows, batch));
            }
        }
        Ok((groups, undecodable))
    }

    fn push(&mut self, record: &Record) -> Result<std::result::Result<SchemaRef, String>> {
        let (id, datum) = match framing::read(record.schema.as_deref(), &record.payload) {
            Ok(found) => found,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if !self.by_schema.contains_key(&id) {
            let decoder = match registry::by_ref(self.registry.as_ref(), id) {
                Ok(found) => AvroSchema::parse(&found.schema)
                    .map_err(|e| e.to_string())
                    .and_then(|schema| Decoder::new(&schema).map_err(|e| e.to_string())),
                // The registry answered, and has no such schema: the record is at fault.
                Err(e @ (RegistryError::NotFound { .. } | RegistryError::Refused { .. })) => {
                    Err(e.to_string())
                }
                Err(e) => return Err(e.into()),
            };
            self.by_schema.insert(id, decoder);
        }
        Ok(match self.by_schema.get_mut(&id) {
            Some(Ok(decoder)) => decoder
                .push(datum)
                .map(|()| id)
                .map_err(|e| format!("schema {id}: {e}")),
            Some(Err(reason)) => Err(format!("schema {id}: {reason}")),
            None => Err(format!("schema {id} is not known")),
        })
    }
}
