//! The frames between a worker and a Python service process. The protocol is described in
//! `python/kappaflow/service/protocol.py`; this side checks everything it reads.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::work::verdict::Verdict;

/// Version of the protocol, in both hellos.
pub const VERSION: u64 = 2;
const RETRY: i64 = -1;
const DEAD_LETTER: i64 = -2;
const HELD: i64 = -3;
/// No frame is larger: a length beyond it is not a frame of ours.
const LONGEST: usize = 1 << 30;

/// Why no frame came.
#[derive(Debug)]
pub enum WireError {
    /// The process is gone.
    Closed,
    /// What came is no frame of this protocol.
    Garbage(String),
}

/// A head, which is a JSON object, and a body.
pub type Frame = (Value, Vec<u8>);

/// A frame as it is sent.
pub fn frame(head: &Value, body: &[u8]) -> Result<Vec<u8>, String> {
    let text = head.to_string();
    let too_long = |_| "a frame over 4 GiB".to_owned();
    let mut all = Vec::with_capacity(text.len() + body.len() + 8);
    all.extend_from_slice(&u32::try_from(text.len()).map_err(too_long)?.to_be_bytes());
    all.extend_from_slice(&u32::try_from(body.len()).map_err(too_long)?.to_be_bytes());
    all.extend_from_slice(text.as_bytes());
    all.extend_from_slice(body);
    Ok(all)
}

/// Receives a frame.
pub async fn receive(socket: &mut (impl AsyncRead + Unpin)) -> Result<Frame, WireError> {
    let head = length(socket).await?;
    let body = length(socket).await?;
    let head = bytes(socket, head).await?;
    let body = bytes(socket, body).await?;
    let head = serde_json::from_slice(&head).map_err(|e| WireError::Garbage(e.to_string()))?;
    Ok((head, body))
}

async fn length(socket: &mut (impl AsyncRead + Unpin)) -> Result<usize, WireError> {
    let length = socket.read_u32().await.map_err(|_| WireError::Closed)? as usize;
    if length > LONGEST {
        return Err(WireError::Garbage(format!("a frame of {length} bytes")));
    }
    Ok(length)
}

async fn bytes(socket: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Vec<u8>, WireError> {
    let mut data = vec![0; length];
    let read = socket.read_exact(&mut data).await;
    read.map(|_| data).map_err(|_| WireError::Closed)
}

/// What an `answers` frame says: to which batch, verdicts by row, and the answers in the order of the verdicts.
pub struct Answers {
    pub id: u64,
    pub verdicts: Vec<(usize, Verdict)>,
    pub answers: RecordBatch,
}

/// Reads an `answers` frame.
pub fn answers(head: &Value, body: &[u8]) -> Result<Answers, String> {
    let id = head.get("id").and_then(Value::as_u64);
    let (true, Some(id)) = (head.get("type") == Some(&json!("answers")), id) else {
        return Err(format!("{head} where answers were expected"));
    };
    let list = |name: &str| head.get(name).and_then(Value::as_array);
    let numbers = list("n").ok_or("no verdicts")?;
    let rows = list("rows");
    if rows.is_some_and(|rows| rows.len() != numbers.len()) {
        return Err(format!("{} verdicts for other rows", numbers.len()));
    }
    let why = head.get("why");
    let mut verdicts = Vec::with_capacity(numbers.len());
    for (place, n) in numbers.iter().enumerate() {
        let text = |at: usize| {
            why.and_then(|w| w.get(place.to_string()))
                .and_then(|w| w.get(at))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let verdict = match n.as_i64() {
            Some(0) => Verdict::Filtered(text(0)),
            Some(RETRY) => Verdict::retry(text(0), text(1)),
            Some(DEAD_LETTER) => Verdict::dead_letter(text(0), text(1)),
            Some(HELD) => Verdict::Held,
            Some(n) => Verdict::Answered(usize::try_from(n).map_err(|_| format!("verdict {n}"))?),
            None => return Err(format!("verdict {n}")),
        };
        let row = rows.map_or(Some(place), |rows| {
            let row = rows.get(place).and_then(Value::as_u64)?;
            usize::try_from(row).ok()
        });
        verdicts.push((row.ok_or("a row that is no number")?, verdict));
    }
    Ok(Answers {
        id,
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
