//! Splits and their receipts.

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, to_i64, to_u64};
use crate::error::Result;
use crate::identity::JobId;
use crate::snapshot::Split;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitState {
    /// Nothing was sent.
    Pending,
    /// A publisher has noted where read-back starts, and may have sent some.
    Open,
    /// `rows = acknowledged + rejected`: the receipt.
    Closed,
}

/// A split with how far its publishing is.
#[derive(Clone, Debug, Serialize)]
pub struct SplitRow {
    #[serde(flatten)]
    pub split: Split,
    pub state: SplitState,
    /// `(partition, offset)` where read-back starts.
    pub noted: Vec<(i32, i64)>,
    pub acknowledged: u64,
    pub rejected: u64,
    /// `(partition, first offset, last offset)` of the acknowledged rows.
    pub ranges: Vec<(i32, i64, i64)>,
}

impl Store {
    /// The splits of a job, or of one child, in order.
    pub async fn splits(&self, job: JobId, child: Option<&str>) -> Result<Vec<SplitRow>> {
        let rows = sqlx::query(
            "SELECT * FROM split WHERE job = $1 AND ($2 IS NULL OR child = $2) ORDER BY split",
        )
        .bind(job.to_string())
        .bind(child)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the splits"))?;
        rows.iter().map(|row| self.split_row(row)).collect()
    }

    fn split_row(&self, row: &SqliteRow) -> Result<SplitRow> {
        let narrow = |column: &str| {
            u32::try_from(row.get::<i64, _>(column)).map_err(|e| self.damaged(column, e))
        };
        let index = |column: &str| {
            usize::try_from(row.get::<i64, _>(column)).map_err(|e| self.damaged(column, e))
        };
        let noted: Option<String> = row.get("noted");
        let ranges: Option<String> = row.get("ranges");
        let state: String = row.get("state");
        Ok(SplitRow {
            split: Split {
                split: narrow("split")?,
                child: row.get("child"),
                file: index("file")?,
                row_group_first: index("row_group_first")?,
                row_group_count: index("row_group_count")?,
                first_row: to_u64(row.get("first_row")),
                rows: narrow("rows")?,
            },
            state: match state.as_str() {
                "open" => SplitState::Open,
                "closed" => SplitState::Closed,
                _ => SplitState::Pending,
            },
            noted: noted
                .map_or(Ok(Vec::new()), |t| serde_json::from_str(&t))
                .map_err(|e| self.damaged("noted", e))?,
            acknowledged: to_u64(row.get("acknowledged")),
            rejected: to_u64(row.get("rejected")),
            ranges: ranges
                .map_or(Ok(Vec::new()), |t| serde_json::from_str(&t))
                .map_err(|e| self.damaged("ranges", e))?,
        })
    }

    /// Notes, before anything of a split is sent, where its read-back would start. An open split keeps its first note.
    pub async fn open_split(&self, job: JobId, split: u32, noted: &[(i32, i64)]) -> Result<()> {
        sqlx::query("UPDATE split SET state = 'open', noted = $3 WHERE job = $1 AND split = $2 AND state = 'pending'")
            .bind(job.to_string())
            .bind(i64::from(split))
            .bind(serde_json::to_string(noted).unwrap_or_default())
            .execute(&self.pool)
            .await
            .map_err(self.failed("open a split"))?;
        Ok(())
    }

    /// Notes again, of an open split, where its read-back would start, with the rows that are acknowledged before that
    /// and where they are.
    pub async fn note_split(
        &self,
        job: JobId,
        split: u32,
        noted: &[(i32, i64)],
        acknowledged: &roaring::RoaringBitmap,
        ranges: &[(i32, i64, i64)],
    ) -> Result<()> {
        let mut tx = self.begin("note a split").await?;
        sqlx::query(
            "UPDATE split SET noted = $3, ranges = $4
             WHERE job = $1 AND split = $2 AND state = 'open'",
        )
        .bind(job.to_string())
        .bind(i64::from(split))
        .bind(serde_json::to_string(noted).unwrap_or_default())
        .bind(serde_json::to_string(ranges).unwrap_or_default())
        .execute(&mut *tx)
        .await
        .map_err(self.failed("note a split"))?;
        super::ledger::put(
            &mut tx,
            job,
            split,
            super::Stage::Acknowledged,
            acknowledged,
        )
        .await
        .map_err(self.failed("keep the ledger"))?;
        tx.commit().await.map_err(self.failed("note a split"))
    }

    /// Closes a split with its receipt, and keeps the sets and the reject counts, in one transaction.
    pub async fn close_split(
        &self,
        job: JobId,
        split: u32,
        acknowledged: &roaring::RoaringBitmap,
        rejected: &roaring::RoaringBitmap,
        ranges: &[(i32, i64, i64)],
        rejects: &[super::RejectCount],
    ) -> Result<()> {
        let mut tx = self.begin("close a split").await?;
        sqlx::query(
            "UPDATE split SET state = 'closed', acknowledged = $3, rejected = $4, ranges = $5
             WHERE job = $1 AND split = $2",
        )
        .bind(job.to_string())
        .bind(i64::from(split))
        .bind(to_i64(acknowledged.len()))
        .bind(to_i64(rejected.len()))
        .bind(serde_json::to_string(ranges).unwrap_or_default())
        .execute(&mut *tx)
        .await
        .map_err(self.failed("close a split"))?;
        for (stage, rows) in [
            (super::Stage::Acknowledged, acknowledged),
            (super::Stage::Rejected, rejected),
        ] {
            super::ledger::put(&mut tx, job, split, stage, rows)
                .await
                .map_err(self.failed("keep the ledger"))?;
        }
        for reject in rejects {
            sqlx::query(
                "INSERT INTO reject_count VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (job, split, field, reason) DO UPDATE SET count = excluded.count",
            )
            .bind(job.to_string())
            .bind(i64::from(split))
            .bind(&reject.field)
            .bind(&reject.reason)
            .bind(to_i64(reject.count))
            .execute(&mut *tx)
            .await
            .map_err(self.failed("keep the reject counts"))?;
        }
        tx.commit().await.map_err(self.failed("close a split"))
    }
}
