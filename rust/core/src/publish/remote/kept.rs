//! The rejects of splits that were published elsewhere, kept beside the job as those of splits published here: taken
//! from the dead-letter topic, which has all of a split's before its receipt is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rdkafka::message::Message;
use roaring::RoaringBitmap;

use crate::context::Context;
use crate::error::Result;
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::{Cluster, PartitionRange, header, read_ranges};
use crate::publish::rejects::{RejectFile, RejectRow};
use crate::session::Session;
use crate::snapshot::Split;
use crate::store::TopicRow;
use crate::verdict::{
    COLUMN_HEADER, LEFT_OUT_HEADER, REASON_HEADER, STAGE_HEADER, STAGE_PUBLISH, VALUE_HEADER,
};

/// Rows that are written at once.
const BATCH_ROWS: usize = 1_000;

/// The files of rejects on their way.
pub struct KeptRejects {
    work_dir: PathBuf,
    job: JobId,
    topic: TopicRow,
    /// Paths of the snapshot's files.
    paths: Vec<String>,
    next: BTreeMap<i32, i64>,
    /// Behind a lock that is never waited for: a writer of Parquet can't be looked at from two threads.
    files: Mutex<BTreeMap<u32, Kept>>,
}

struct Kept {
    file: RejectFile,
    /// Rows that are in it: a letter may be there twice.
    rows: RoaringBitmap,
    waiting: Vec<RejectRow>,
}

impl KeptRejects {
    pub fn new(session: &Session, topic: TopicRow) -> Self {
        Self {
            work_dir: session.work_dir(),
            job: session.id,
            paths: session
                .snapshot
                .files
                .iter()
                .map(|f| f.path.clone())
                .collect(),
            next: topic.start.iter().copied().collect(),
            topic,
            files: Mutex::default(),
        }
    }

    /// Reads on to the topic's present end, and keeps what is of the splits `wanted`.
    ///
    /// # Errors
    /// Those of reading the topic; [`crate::Error::Io`].
    pub async fn read_on(
        &mut self,
        cluster: &Cluster,
        wanted: Vec<Split>,
        ctx: &Context,
    ) -> Result<()> {
        let wanted: BTreeMap<u32, Split> = wanted.into_iter().map(|s| (s.split, s)).collect();
        let (topic, job, ctx) = (self.topic.clone(), self.job, ctx.clone());
        let (work_dir, paths) = (self.work_dir.clone(), self.paths.clone());
        let (mut files, mut next) = (std::mem::take(self.files()), self.next.clone());
        // If it fails, what was read so far is given up with the files, and read again.
        self.next = self.topic.start.iter().copied().collect();
        let read = cluster
            .blocking(move |cluster| {
                let mut ranges = Vec::new();
                for (partition, low, end) in cluster.watermarks(&topic.name, topic.partitions)? {
                    let start = next.get(&partition).copied().unwrap_or(low).max(low);
                    ranges.push(PartitionRange {
                        partition,
                        start,
                        end,
                    });
                }
                read_ranges(cluster, &topic.name, &ranges, "publish", &ctx, |message| {
                    let text = |name| {
                        let bytes = header(message, name).unwrap_or_default();
                        String::from_utf8_lossy(bytes).into_owned()
                    };
                    if header(message, STAGE_HEADER) != Some(STAGE_PUBLISH.as_bytes()) {
                        return Ok(());
                    }
                    let Some(Ok(id)) = header(message, HEADER).map(Identity::from_bytes) else {
                        return Ok(());
                    };
                    let Some(split) = wanted.get(&id.split).filter(|_| id.job == job) else {
                        return Ok(());
                    };
                    let kept = files.entry(id.split).or_insert_with(|| {
                        let path = paths.get(split.file).map_or("", String::as_str);
                        Kept {
                            file: RejectFile::new(&work_dir, id.split, path, split.first_row),
                            rows: RoaringBitmap::new(),
                            waiting: Vec::new(),
                        }
                    });
                    let payload = message
                        .payload()
                        .filter(|_| header(message, LEFT_OUT_HEADER).is_none())
                        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                    kept.add(RejectRow {
                        row: id.seq,
                        column: text(COLUMN_HEADER),
                        value: text(VALUE_HEADER),
                        reason: text(REASON_HEADER),
                        payload,
                    })
                })?;
                next.extend(ranges.iter().map(|r| (r.partition, r.end)));
                Ok((files, next))
            })
            .await?;
        let (files, next) = read;
        *self.files() = files;
        self.next = next;
        Ok(())
    }

    fn files(&mut self) -> &mut BTreeMap<u32, Kept> {
        self.files.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the file of a split its name, if the split has rejects.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn finish(&mut self, split: u32) -> Result<()> {
        if let Some(kept) = self.files().get_mut(&split) {
            kept.write()?;
            kept.file.finish()?;
        }
        self.files().remove(&split);
        Ok(())
    }
}

impl Kept {
    fn add(&mut self, reject: RejectRow) -> Result<()> {
        if self.rows.insert(reject.row) {
            self.waiting.push(reject);
        }
        match self.waiting.len() >= BATCH_ROWS {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        self.file.add(&std::mem::take(&mut self.waiting))
    }
}
