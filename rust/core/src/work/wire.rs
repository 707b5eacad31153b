//! The frames between a worker and a Python service process. The protocol is described in
//! `python/kappaflow/service/protocol.py`; this side checks everything it reads.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Value, json};

use super::service::{Reply, Verdict};

/// Version of the protocol, in both hellos.
pub const VERSION: u64 = 1;
pub const RETRY: i64 = -1;
pub const DEAD_LETTER: i64 = -2;
/// No frame is larger: a length beyond it is not a frame of ours.
const LONGEST: usize = 1 << 30;

/// Why no frame came or went.
#[derive(Debug)]
pub enum WireError {
    /// The process is gone.
    Closed,
    /// What came is no frame of this protocol.
    Garbage(String),
    /// The tick said to stop.
    Ticked,
}

/// Called at least every time the socket's time-out passes; `false` ends the wait.
pub type Tick<'t> = &'t mut dyn FnMut() -> bool;

/// Sends a frame.
pub fn send(
    socket: &mut UnixStream,
    head: &Value,
    body: &[u8],
    tick: Tick<'_>,
) -> Result<(), WireError> {
    let text = head.to_string();
    let too_long = |_| WireError::Garbage("a frame over 4 GiB".into());
    let mut start = Vec::with_capacity(text.len() + 8);
    start.extend_from_slice(&u32::try_from(text.len()).map_err(too_long)?.to_be_bytes());
    start.extend_from_slice(&u32::try_from(body.len()).map_err(too_long)?.to_be_bytes());
    start.extend_from_slice(text.as_bytes());
    write_all(socket, &start, tick)?;
    write_all(socket, body, tick)
}

fn write_all(socket: &mut UnixStream, mut data: &[u8], tick: Tick<'_>) -> Result<(), WireError> {
    while !data.is_empty() {
        match socket.write(data) {
            Ok(0) => return Err(WireError::Closed),
            Ok(n) => data = data.get(n..).unwrap_or_default(),
            Err(e) => pause(&e, tick)?,
        }
    }
    Ok(())
}

/// Receives a frame: its head, a JSON object, and its body.
pub fn receive(socket: &mut UnixStream, tick: Tick<'_>) -> Result<(Value, Vec<u8>), WireError> {
    let mut lengths = [0; 8];
    read_exact(socket, &mut lengths, tick)?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let mut part = |length: [u8; 4]| {
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(WireError::Garbage(format!("a frame of {length} bytes")));
        }
        let mut data = vec![0; length];
        read_exact(socket, &mut data, tick)?;
        Ok(data)
    };
    let head = part([a, b, c, d])?;
    let body = part([e, f, g, h])?;
    let head = serde_json::from_slice(&head).map_err(|e| WireError::Garbage(e.to_string()))?;
    Ok((head, body))
}

fn read_exact(
    socket: &mut UnixStream,
    mut space: &mut [u8],
    tick: Tick<'_>,
) -> Result<(), WireError> {
    while !space.is_empty() {
        match socket.read(space) {
            Ok(0) => return Err(WireError::Closed),
            Ok(n) => space = space.get_mut(n..).unwrap_or_default(),
            Err(e) => pause(&e, tick)?,
        }
    }
    Ok(())
}

fn pause(error: &std::io::Error, tick: Tick<'_>) -> Result<(), WireError> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            tick().then_some(()).ok_or(WireError::Ticked)
        }
        ErrorKind::Interrupted => Ok(()),
        _ => Err(WireError::Closed),
    }
}

/// A reply from an `answers` frame to batch `id`, which had so many rows.
pub fn reply(head: &Value, body: &[u8], id: u64, rows: usize) -> Result<Reply, String> {
    if head.get("type") != Some(&json!("answers")) || head.get("id") != Some(&json!(id)) {
        return Err(format!(
            "{head} where the answers to batch {id} were expected"
        ));
    }
    let numbers = head
        .get("n")
        .and_then(Value::as_array)
        .ok_or("no verdicts")?;
    if numbers.len() != rows {
        return Err(format!("{} verdicts for {rows} records", numbers.len()));
    }
    let why = head.get("why");
    let mut verdicts = Vec::with_capacity(rows);
    for (row, n) in numbers.iter().enumerate() {
        let text = |at: usize| {
            why.and_then(|w| w.get(row.to_string()))
                .and_then(|w| w.get(at))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        verdicts.push(match n.as_i64() {
            Some(0) => Verdict::Filtered(text(0)),
            Some(RETRY) => Verdict::Retry {
                reason: text(0),
                detail: text(1),
            },
            Some(DEAD_LETTER) => Verdict::DeadLetter {
                reason: text(0),
                detail: text(1),
            },
            Some(n) => Verdict::Answered(usize::try_from(n).map_err(|_| format!("verdict {n}"))?),
            None => return Err(format!("verdict {n}")),
        });
    }
    Ok(Reply {
        verdicts,
        answers: batch_from_ipc(body)?,
    })
}

/// A schema alone, as an Arrow IPC stream.
pub fn schema_to_ipc(schema: &Schema) -> Result<Vec<u8>, String> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    writer.into_inner().map_err(|e| e.to_string())
}

pub fn batch_to_ipc(batch: &RecordBatch) -> Result<Vec<u8>, String> {
    let mut writer =
        StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(|e| e.to_string())?;
    writer.write(batch).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    writer.into_inner().map_err(|e| e.to_string())
}

/// The one batch of a stream.
pub fn batch_from_ipc(body: &[u8]) -> Result<RecordBatch, String> {
    let mut reader = StreamReader::try_new(body, None).map_err(|e| e.to_string())?;
    match reader.next() {
        Some(batch) => batch.map_err(|e| e.to_string()),
        None => Ok(RecordBatch::new_empty(reader.schema())),
    }
}

/// The schema in which answers come back: wide enough that Python loses nothing on the way to the egress schema's gate,
/// which then judges row by row. Everything may be null, and times have microseconds.
pub fn answer_schema(egress: &Schema) -> Schema {
    Schema::new(egress.fields().iter().map(|f| loose(f)).collect::<Fields>())
}

fn loose(field: &Field) -> Field {
    Field::new(field.name(), loose_type(field.data_type()), true)
}

fn loose_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Dictionary(_, values) => loose_type(values),
        DataType::List(item) => DataType::List(Arc::new(loose(item))),
        DataType::LargeList(item) => DataType::LargeList(Arc::new(loose(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| loose(f)).collect()),
        DataType::Map(entries, sorted) => match entries.data_type() {
            // Keys and entries of a map are never null.
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair: Fields = pair
                    .iter()
                    .enumerate()
                    .map(|(at, f)| match at {
                        0 => f.as_ref().clone(),
                        _ => loose(f),
                    })
                    .collect();
                let entries = Field::new(entries.name(), DataType::Struct(pair), false);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}
