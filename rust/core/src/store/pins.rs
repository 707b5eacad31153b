//! Which pinned snapshot a request is answered with.

use sqlx::Row;

use super::{JobRow, Store, now_ms};
use crate::error::Result;
use crate::identity::JobId;
use crate::snapshot::Snapshot;

impl Store {
    /// The job and the snapshot that a request is answered with; `None` if nothing is pinned for it.
    pub async fn pinned(&self, request: &str) -> Result<Option<(JobId, Snapshot)>> {
        let row = sqlx::query("SELECT job, snapshot FROM pin WHERE request = $1")
            .bind(request)
            .fetch_optional(&self.pool)
            .await
            .map_err(self.failed("look for the pinned snapshot"))?;
        row.map(|row| {
            let (id, snapshot): (String, String) = (row.get("job"), row.get("snapshot"));
            let id = id.parse().map_err(|e| self.damaged("job id", e))?;
            let snapshot =
                serde_json::from_str(&snapshot).map_err(|e| self.damaged("snapshot", e))?;
            Ok((id, snapshot))
        })
        .transpose()
    }

    /// Notes what a request is answered with, and says what that is: of two that pin at once the first wins, unless
    /// the later one asked for a `new` snapshot.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn pin(&self, request: &str, job: &JobRow, new: bool) -> Result<(JobId, Snapshot)> {
        let snapshot =
            serde_json::to_string(&job.snapshot).map_err(|e| self.damaged("snapshot", e))?;
        sqlx::query(
            "INSERT INTO pin VALUES ($1, $2, $3, $4) ON CONFLICT (request) DO UPDATE
             SET job = excluded.job, snapshot = excluded.snapshot, pinned_ms = excluded.pinned_ms WHERE $5",
        )
        .bind(request)
        .bind(job.id.to_string())
        .bind(snapshot)
        .bind(now_ms())
        .bind(new)
        .execute(&self.pool)
        .await
        .map_err(self.failed("pin the snapshot"))?;
        let pinned = self.pinned(request).await?;
        pinned.ok_or_else(|| self.damaged("pin", "it is gone"))
    }
}
