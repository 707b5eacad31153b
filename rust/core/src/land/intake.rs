//! What becomes of each record: an answer's row, a dead letter, or nothing.

use std::collections::{BTreeMap, HashMap};

use kappaflow_avro::AvroSchema;
use kappaflow_avro::framing::{self, SchemaKey, VALUE_HEADER};
use rdkafka::message::{BorrowedMessage, Message};

use super::Plan;
use super::families::{At, Families, FamilyError, Offer};
use super::letters::{Bad, Letters};
use super::writer::{Answer, Writer};
use crate::error::{Error, Result};
use crate::identity::{EgressIdentity, HEADER};
use crate::kafka::header;
use crate::registry::{self, RegistryError};
use crate::table::Position;

/// A record of a family that is not complete yet, as it came.
pub struct Held {
    schema_header: Option<Vec<u8>>,
    payload: Vec<u8>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// An answer as it came.
#[derive(Clone, Copy)]
struct Raw<'a> {
    at: At,
    id: EgressIdentity,
    schema_header: Option<&'a [u8]>,
    payload: &'a [u8],
}

/// Takes the records of one drain.
pub struct Intake<'a> {
    pub plan: &'a Plan,
    /// Where the drain began.
    pub starts: &'a BTreeMap<i32, Position>,
    pub families: Families<Held>,
    pub writer: Writer,
    pub letters: Letters<'a>,
    /// Schemas whose answers can't be read, and why.
    pub unreadable: HashMap<SchemaKey, String>,
    /// Read, and not this job's, so far.
    pub records: u64,
    pub foreign: u64,
}

impl Intake<'_> {
    /// Takes one record.
    ///
    /// # Errors
    /// [`Error::TooManyDeadLetters`]; what the registry, the files or the broker fail with; [`Error::Topic`] if too much of
    /// incomplete families is held.
    pub fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let (partition, offset) = (message.partition(), message.offset());
        self.records += 1;
        let again = self
            .starts
            .get(&partition)
            .is_some_and(|at| offset < at.reached);
        let at = At {
            partition,
            offset,
            again,
        };
        let schema_header = header(message, VALUE_HEADER);
        let payload = message.payload().unwrap_or_default();
        let id = match self.identity(header(message, HEADER)) {
            Ok(Some(id)) => id,
            Ok(None) => {
                self.foreign += u64::from(!again);
                return Ok(());
            }
            Err(reason) => {
                return self.letters.send(&Bad {
                    at,
                    id: None,
                    reason: &reason,
                    schema_header,
                    payload,
                });
            }
        };
        let raw = Raw {
            at,
            id,
            schema_header,
            payload,
        };
        let held = || Held {
            schema_header: schema_header.map(<[u8]>::to_vec),
            payload: payload.to_vec(),
        };
        match self.families.offer(at, id, held) {
            Ok(Offer::Single) => self.land(&[raw])?,
            Ok(Offer::Family(members)) => {
                let family: Vec<Raw<'_>> = members
                    .iter()
                    .map(|member| Raw {
                        at: member.at,
                        id: EgressIdentity {
                            child: member.child,
                            ..id
                        },
                        schema_header: member.payload.schema_header.as_deref(),
                        payload: &member.payload.payload,
                    })
                    .collect();
                self.land(&family)?;
            }
            Ok(Offer::Held | Offer::Duplicate) => {}
            Err(e @ FamilyError::Number { .. }) => {
                self.refuse(&raw, &format!("can't be of a family: {e}"))?;
            }
            Err(e @ FamilyError::TooMuchHeld { .. }) => return Err(self.stuck(at, &e)),
        }
        self.writer.flush_if_due()
    }

    /// Whose answer a record is, or nothing if that is another job's, or of a child job that is placed elsewhere.
    fn identity(&self, header: Option<&[u8]>) -> Result<Option<EgressIdentity>, String> {
        let bytes = header.ok_or_else(|| format!("has no header {HEADER}"))?;
        let id = EgressIdentity::from_bytes(bytes).map_err(|e| format!("is nobody's: {e}"))?;
        if id.input.job != self.plan.job {
            return Ok(None);
        }
        match self.plan.splits.get(&id.input.split) {
            Some((rows, here)) if id.input.seq < *rows => Ok(here.then_some(id)),
            _ => Err(format!(
                "answers a row that the job does not have: {} of split {}",
                id.input.seq, id.input.split
            )),
        }
    }

    /// Lands all answers to an input, or none: if one of them can't be read, all of them are dead letters.
    fn land(&mut self, family: &[Raw<'_>]) -> Result<()> {
        let mut answers = Vec::with_capacity(family.len());
        let mut bad = None;
        for (index, raw) in family.iter().enumerate() {
            match self.readable(raw)? {
                Ok(answer) => answers.push(answer),
                Err(reason) => {
                    bad = Some((index, reason));
                    break;
                }
            }
        }
        let bad = match bad {
            None => match self.writer.push(&answers) {
                Ok(()) => {
                    if let Some(first) = family.first() {
                        self.families.landed(first.id.input);
                    }
                    return Ok(());
                }
                Err((index, reason)) => {
                    let name = self.plan.egress.full_name();
                    (index, format!("can't be decoded as {name}: {reason}"))
                }
            },
            Some(bad) => bad,
        };
        for (index, raw) in family.iter().enumerate() {
            if index == bad.0 {
                self.refuse(raw, &bad.1)?;
            } else {
                let at = family[bad.0].at;
                let other = format!(
                    "is of a family that can't land: offset {} {}",
                    at.offset, bad.1
                );
                self.refuse(raw, &other)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, raw: &Raw<'_>, reason: &str) -> Result<()> {
        self.letters.send(&Bad {
            at: raw.at,
            id: Some(raw.id),
            reason,
            schema_header: raw.schema_header,
            payload: raw.payload,
        })
    }

    /// The answer's schema, which can be read then, and its datum; or why there is none.
    fn readable<'r>(&mut self, raw: &Raw<'r>) -> Result<Result<Answer<'r>, String>> {
        let (schema, datum) = match framing::read(raw.schema_header, raw.payload) {
            Ok(read) => read,
            Err(e) => return Ok(Err(format!("names no schema: {e}"))),
        };
        if !self.writer.knows(schema) {
            if let Some(reason) = self.unreadable.get(&schema) {
                return Ok(Err(reason.clone()));
            }
            if let Err(reason) = self.learn(schema)? {
                self.unreadable.insert(schema, reason.clone());
                return Ok(Err(reason));
            }
        }
        Ok(Ok(Answer {
            at: raw.at,
            id: raw.id,
            schema,
            datum,
        }))
    }

    /// Makes ready to read what was written with another schema, or says why that can't be.
    ///
    /// # Errors
    /// If the registry can't be asked.
    fn learn(&mut self, schema: SchemaKey) -> Result<Result<(), String>> {
        let text = match registry::by_ref(self.plan.registry.as_ref(), schema) {
            Ok(found) => found.schema,
            // The registry answered, and has no such schema: the record is at fault.
            Err(e @ (RegistryError::NotFound { .. } | RegistryError::Unusable { .. })) => {
                return Ok(Err(format!(
                    "was written with schema {schema}, which is not known: {e}"
                )));
            }
            Err(e) => return Err(e.into()),
        };
        let learnt = AvroSchema::parse(&text)
            .map_err(|e| e.to_string())
            .and_then(|written| {
                let resolved = self.writer.learn(schema, &written);
                resolved.map_err(|e| e.to_string())
            });
        Ok(learnt.map_err(|e| {
            format!(
                "was written with schema {schema}, which the job's schema.egress can't read: {e}"
            )
        }))
    }

    fn stuck(&self, at: At, e: &FamilyError) -> Error {
        Error::Topic {
            topic: self.plan.topic.name.clone(),
            partition: Some(at.partition),
            offset: Some(at.offset),
            reason: format!("{e}. Nothing was landed since the last commit"),
        }
    }
}
