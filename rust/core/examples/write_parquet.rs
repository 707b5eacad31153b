//! What writing Parquet alone takes: the rows of files that were landed, from memory, as the lander writes them, on one
//! thread. `benchmarks/land.py` runs it; the last line is JSON.
#![allow(
    clippy::print_stdout,
    reason = "a program of the benchmarks, which read what it prints"
)]

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Rows that go to the writer at a time, and bytes of a row group: the lander's.
const BATCH_ROWS: usize = 8_192;
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows that are held in memory, and written again and again until all are.
const HELD: usize = 400_000;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let first = files.first().ok_or("give the landed files")?;
    let mut batches = Vec::new();
    let mut total = 0;
    for path in &files {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        total += usize::try_from(builder.metadata().file_metadata().num_rows())?;
        for batch in builder.with_batch_size(BATCH_ROWS).build()? {
            if batches.len() * BATCH_ROWS >= HELD {
                break;
            }
            batches.push(batch?);
        }
    }
    let out = first.with_extension("alone");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let schema = batches.first().ok_or("the files have no rows")?.schema();
    let begun = Instant::now();
    let mut writer = ArrowWriter::try_new(File::create(&out)?, schema, Some(properties))?;
    let mut rows = 0;
    for batch in batches.iter().cycle() {
        writer.write(batch)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush()?;
        }
        rows += batch.num_rows();
        if rows >= total {
            break;
        }
    }
    writer.into_inner()?.sync_all()?;
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&out)?;
    println!(r#"{{"rows": {rows}, "seconds": {seconds:.3}}}"#);
    Ok(())
}
