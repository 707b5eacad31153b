//! Jobs that were given to fleets, and the processes of fleets.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, now_ms};
use crate::error::Result;
use crate::identity::JobId;

/// A fleet's process that has not been seen for so long (in milliseconds) is gone.
const GONE_MS: i64 = 15_000;

/// What became of a job that was given to a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionState {
    /// It waits, or is worked on.
    Submitted,
    Done,
    /// It was tried as often as it may be.
    Failed,
    Cancelled,
}

impl SubmissionState {
    fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "done" => Self::Done,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            // The table's CHECK admits these four.
            _ => Self::Submitted,
        }
    }
}

/// A job that was given to the fleet of a service, in a region, as it was then.
#[derive(Clone, Debug)]
pub struct Submission {
    pub job: JobId,
    pub name: String,
    pub region: String,
    pub service: String,
    /// Grows with each submission: the order of the queue. A job that is submitted again has a new one.
    pub number: i64,
    pub state: SubmissionState,
    pub path: String,
    /// JSON.
    pub params: String,
    /// TOML.
    pub resolved: String,
    /// Avro schemas, JSON.
    pub ingress: String,
    pub egress: String,
    /// Why it failed or is tried again, or by whom it was cancelled; else empty.
    pub note: String,
    pub submitted_ms: i64,
    pub changed_ms: i64,
}

/// A process of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct FleetMember {
    pub service: String,
    pub region: String,
    pub member: i64,
    pub host: String,
    pub pid: u32,
    /// Jobs that it works on at once, at most.
    pub max_jobs: u32,
    pub started_ms: i64,
    pub seen_ms: i64,
    pub jobs: Vec<JobFigures>,
}

impl FleetMember {
    /// Whether it said lately that it is there.
    pub fn is_alive(&self) -> bool {
        now_ms() - self.seen_ms < GONE_MS
    }
}

/// How far a fleet's process is with a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFigures {
    pub job: String,
    /// Records that it has finished.
    pub read: u64,
    /// Calls that it may have under way for the job now.
    pub share: u64,
    pub in_flight: u64,
    /// Records that wait in the partitions it holds.
    pub lag: u64,
}

impl Store {
    /// Gives a job to a fleet. One that is submitted already keeps its place, with what is new of its file.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn submit(&self, new: &Submission) -> Result<()> {
        let what = "submit a job";
        let number = self.next("submission").await?;
        sqlx::query(
            "INSERT INTO submission VALUES ($1, $2, $3, $4, 'submitted', $5, $6, $7, $8, $9, '', $10, $10)
             ON CONFLICT (job, region) DO UPDATE SET
                number = CASE WHEN submission.state = 'submitted' AND submission.service = excluded.service
                              THEN submission.number ELSE excluded.number END,
                submitted_ms = CASE WHEN submission.state = 'submitted' AND submission.service = excluded.service
                              THEN submission.submitted_ms ELSE excluded.submitted_ms END,
                service = excluded.service, state = 'submitted', path = excluded.path, params = excluded.params,
                resolved = excluded.resolved, ingress = excluded.ingress, egress = excluded.egress,
                note = '', changed_ms = excluded.changed_ms",
        )
        .bind(new.job.to_string())
        .bind(&new.region)
        .bind(&new.service)
        .bind(number)
        .bind(&new.path)
        .bind(&new.params)
        .bind(&new.resolved)
        .bind(&new.ingress)
        .bind(&new.egress)
        .bind(now_ms())
        .execute(&self.pool)
        .await
        .map_err(self.failed(what))?;
        Ok(())
    }

    /// Notes what became of a submission; nothing, if it has ended otherwise or was submitted anew. Whether it did.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn settle_submission(
        &self,
        submission: &Submission,
        state: SubmissionState,
        note: &str,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE submission SET state = $4, note = $5, changed_ms = $6
             WHERE job = $1 AND region = $2 AND number = $3 AND state = 'submitted'",
        )
        .bind(submission.job.to_string())
        .bind(&submission.region)
        .bind(submission.number)
        .bind(state.name())
        .bind(note)
        .bind(now_ms())
        .execute(&self.pool)
        .await
        .map_err(self.failed("note what became of a submitted job"))?;
        Ok(done.rows_affected() > 0)
    }

    /// A job's submission in a region.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn submission(&self, job: JobId, region: &str) -> Result<Option<Submission>> {
        let row = sqlx::query(
            "SELECT s.*, j.name FROM submission s JOIN job j ON j.id = s.job WHERE s.job = $1 AND s.region = $2",
        )
        .bind(job.to_string())
        .bind(region)
        .fetch_optional(&self.pool)
        .await
        .map_err(self.failed("read a submission"))?;
        row.map(|row| self.submission_row(&row)).transpose()
    }

    /// All submissions; or those of a service in a region that have not ended, in the order of the queue.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn submissions(&self, open: Option<(&str, &str)>) -> Result<Vec<Submission>> {
        let (service, region) = open.unzip();
        let rows = sqlx::query(
            "SELECT s.*, j.name FROM submission s JOIN job j ON j.id = s.job
             WHERE $1 IS NULL OR (s.service = $1 AND s.region = $2 AND s.state = 'submitted') ORDER BY s.number",
        )
        .bind(service)
        .bind(region)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the submissions"))?;
        rows.iter().map(|row| self.submission_row(row)).collect()
    }

    fn submission_row(&self, row: &SqliteRow) -> Result<Submission> {
        let (job, state): (String, String) = (row.get("job"), row.get("state"));
        Ok(Submission {
            job: job.parse().map_err(|e| self.damaged("job id", e))?,
            name: row.get("name"),
            region: row.get("region"),
            service: row.get("service"),
            number: row.get("number"),
            state: SubmissionState::parse(&state),
            path: row.get("path"),
            params: row.get("params"),
            resolved: row.get("resolved"),
            ingress: row.get("ingress"),
            egress: row.get("egress"),
            note: row.get("note"),
            submitted_ms: row.get("submitted_ms"),
            changed_ms: row.get("changed_ms"),
        })
    }

    /// Notes that a fleet's process is there. Those of its fleet that are gone are forgotten.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn fleet_beat(&self, me: &FleetMember) -> Result<()> {
        let what = "note that a fleet is there";
        let now = now_ms();
        let jobs = serde_json::to_string(&me.jobs).unwrap_or_default();
        let mut tx = self.begin(what).await?;
        sqlx::query(
            "INSERT INTO fleet_member VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (service, region, member) DO UPDATE SET seen_ms = excluded.seen_ms, jobs = excluded.jobs",
        )
        .bind(&me.service)
        .bind(&me.region)
        .bind(me.member)
        .bind(&me.host)
        .bind(i64::from(me.pid))
        .bind(i64::from(me.max_jobs))
        .bind(me.started_ms)
        .bind(now)
        .bind(jobs)
        .execute(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        sqlx::query("DELETE FROM fleet_member WHERE service = $1 AND region = $2 AND seen_ms < $3")
            .bind(&me.service)
            .bind(&me.region)
            .bind(now - GONE_MS)
            .execute(&mut *tx)
            .await
            .map_err(self.failed(what))?;
        tx.commit().await.map_err(self.failed(what))
    }

    /// A fleet's process ends.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn leave_fleet(&self, me: &FleetMember) -> Result<()> {
        sqlx::query("DELETE FROM fleet_member WHERE service = $1 AND region = $2 AND member = $3")
            .bind(&me.service)
            .bind(&me.region)
            .bind(me.member)
            .execute(&self.pool)
            .await
            .map_err(self.failed("leave a fleet"))?;
        Ok(())
    }

    /// The processes of all fleets, or of a service's in a region, that have said lately that they are there.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn fleet_members(&self, of: Option<(&str, &str)>) -> Result<Vec<FleetMember>> {
        let (service, region) = of.unzip();
        let rows = sqlx::query(
            "SELECT * FROM fleet_member WHERE $1 IS NULL OR (service = $1 AND region = $2)
             ORDER BY service, region, member",
        )
        .bind(service)
        .bind(region)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the fleets"))?;
        let members = rows.iter().map(|row| {
            let jobs: String = row.get("jobs");
            let narrow = |column| u32::try_from(row.get::<i64, _>(column)).unwrap_or(0);
            Ok(FleetMember {
                service: row.get("service"),
                region: row.get("region"),
                member: row.get("member"),
                host: row.get("host"),
                pid: narrow("pid"),
                max_jobs: narrow("max_jobs"),
                started_ms: row.get("started_ms"),
                seen_ms: row.get("seen_ms"),
                jobs: serde_json::from_str(&jobs).map_err(|e| self.damaged("fleet's jobs", e))?,
            })
        });
        let members: Result<Vec<FleetMember>> = members.collect();
        Ok(members?.into_iter().filter(FleetMember::is_alive).collect())
    }
}
