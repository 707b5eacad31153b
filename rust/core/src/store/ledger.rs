//! The ledger: per split and stage, the exact set of rows seen.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use sqlx::{Row, Sqlite, Transaction};

use super::{Store, to_u64};
use crate::error::Result;
use crate::identity::JobId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Acknowledged,
    Rejected,
    Landed,
    Filtered,
    DeadLettered,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Rejected => "rejected",
            Self::Landed => "landed",
            Self::Filtered => "filtered",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// Rows of a split rejected for one reason in one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectCount {
    pub field: String,
    pub reason: String,
    pub count: u64,
}

pub(super) async fn put(
    tx: &mut Transaction<'_, Sqlite>,
    job: JobId,
    split: u32,
    stage: Stage,
    rows: &RoaringBitmap,
) -> Result<(), sqlx::Error> {
    let mut bytes = Vec::with_capacity(rows.serialized_size());
    rows.serialize_into(&mut bytes).map_err(sqlx::Error::Io)?;
    sqlx::query(
        "INSERT INTO ledger VALUES ($1, $2, $3, $4)
         ON CONFLICT (job, split, stage) DO UPDATE SET rows = excluded.rows",
    )
    .bind(job.to_string())
    .bind(i64::from(split))
    .bind(stage.name())
    .bind(bytes)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Store {
    /// Replaces the sets of one stage; splits that are not named keep theirs.
    pub async fn put_ledger(
        &self,
        job: JobId,
        stage: Stage,
        sets: &BTreeMap<u32, RoaringBitmap>,
    ) -> Result<()> {
        let mut tx = self.begin("keep the ledger").await?;
        for (split, rows) in sets {
            put(&mut tx, job, *split, stage, rows)
                .await
                .map_err(self.failed("keep the ledger"))?;
        }
        tx.commit().await.map_err(self.failed("keep the ledger"))
    }

    /// The sets of one stage by split; a split without any row seen is absent.
    pub async fn ledger(&self, job: JobId, stage: Stage) -> Result<BTreeMap<u32, RoaringBitmap>> {
        let rows = sqlx::query("SELECT split, rows FROM ledger WHERE job = $1 AND stage = $2")
            .bind(job.to_string())
            .bind(stage.name())
            .fetch_all(&self.pool)
            .await
            .map_err(self.failed("read the ledger"))?;
        rows.iter()
            .map(|row| {
                let split = u32::try_from(row.get::<i64, _>("split"))
                    .map_err(|e| self.damaged("split", e))?;
                let bytes: Vec<u8> = row.get("rows");
                let set = RoaringBitmap::deserialize_from(&bytes[..])
                    .map_err(|e| self.damaged("ledger", e))?;
                Ok((split, set))
            })
            .collect()
    }

    /// Rejected rows of a job by field and reason, most first.
    pub async fn reject_counts(&self, job: JobId) -> Result<Vec<RejectCount>> {
        self.reject_counts_of(job, None).await
    }

    /// Rejected rows of a job, or of one child, by field and reason, most first.
    pub async fn reject_counts_of(
        &self,
        job: JobId,
        child: Option<&str>,
    ) -> Result<Vec<RejectCount>> {
        let rows = sqlx::query(
            "SELECT r.field, r.reason, SUM(r.count) AS count
             FROM reject_count r JOIN split s ON s.job = r.job AND s.split = r.split
             WHERE r.job = $1 AND ($2 IS NULL OR s.child = $2)
             GROUP BY r.field, r.reason ORDER BY 3 DESC, 1, 2",
        )
        .bind(job.to_string())
        .bind(child)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the reject counts"))?;
        Ok(rows
            .iter()
            .map(|row| RejectCount {
                field: row.get("field"),
                reason: row.get("reason"),
                count: to_u64(row.get("count")),
            })
            .collect())
    }
}
