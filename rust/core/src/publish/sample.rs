//! Some rows of a job as Parquet files, as its publisher would read them: what a canary replays.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;

use super::rehearsal::recipe;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::kafka::DEFAULT_PARTITIONS;
use crate::rows::{BySchema, FileRows};
use crate::session::Session;
use crate::snapshot::Split;

/// Splits that rows are taken of, spread evenly over all.
const SAMPLED_SPLITS: usize = 32;

/// Makes a directory with so many rows (all, if there are fewer): the first of splits from the whole snapshot. One that
/// is there has them already.
///
/// # Errors
/// [`Error::Source`], [`Error::SourceChanged`], [`Error::Io`], [`Error::Interrupted`].
pub(crate) async fn sample(session: &Session, rows: u64, dir: &Path, ctx: &Context) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let splits = session.store.splits(session.id, None).await?;
    let splits: Vec<Split> = splits.into_iter().map(|s| s.split).collect();
    // Partitions decide nothing here.
    let recipe = recipe(session, DEFAULT_PARTITIONS)?;
    let (snapshot, job, ctx) = (session.snapshot.clone(), session.id, ctx.clone());
    let dir = dir.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let asked = |name: &str| recipe.asks(name);
        let step = splits.len().div_ceil(SAMPLED_SPLITS).max(1);
        let chosen: Vec<&Split> = splits.iter().step_by(step).collect();
        // It appears whole or not at all.
        let made = dir.with_extension(unique_name());
        let mut files = Files::new(&made)?;
        let mut missing = rows;
        for (at, split) in chosen.iter().enumerate() {
            ctx.check("publish")?;
            // What an earlier split has not is asked of those that are left.
            let mut quota = missing.div_ceil((chosen.len() - at) as u64);
            let groups = split.row_group_first..split.row_group_first + split.row_group_count;
            let batches = FileRows::open(&snapshot, split.file, groups, &job.to_string(), &asked)?;
            for batch in batches {
                let batch = batch?;
                let count = quota.min(batch.num_rows() as u64);
                files.write(&batch.slice(0, usize::try_from(count).unwrap_or(usize::MAX)))?;
                (quota, missing) = (quota - count, missing - count);
                if quota == 0 {
                    break;
                }
            }
        }
        files.close()?;
        std::fs::rename(&made, &dir).map_err(Error::io("rename", &made))
    });
    task.await
        .map_err(|e| session.job.error("source", e.to_string()))?
}

/// One for each schema that batches have.
struct Files {
    dir: PathBuf,
    writers: BySchema<(PathBuf, ArrowWriter<File>)>,
    count: usize,
}

impl Files {
    fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("make the directory", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            writers: BySchema::new(),
            count: 0,
        })
    }

    fn write(&mut self, batch: &arrow_array::RecordBatch) -> Result<()> {
        let (dir, count) = (&self.dir, &mut self.count);
        let (path, writer) = self.writers.get(batch.schema_ref(), |schema| {
            let path = dir.join(format!("{count}.parquet"));
            *count += 1;
            let file = File::create(&path).map_err(Error::io("make", &path))?;
            let writer = ArrowWriter::try_new(file, schema.clone(), None);
            let writer = writer.map_err(|e| unwritten(&path, &e))?;
            Ok::<_, Error>((path, writer))
        })?;
        writer.write(batch).map_err(|e| unwritten(path, &e))
    }

    fn close(self) -> Result<()> {
        for (path, writer) in self.writers.into_values() {
            writer.close().map_err(|e| unwritten(&path, &e))?;
        }
        Ok(())
    }
}

fn unwritten(path: &Path, error: &parquet::errors::ParquetError) -> Error {
    Error::io("write", path)(std::io::Error::other(error.to_string()))
}
