//! Jobs, child jobs, topics and events.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, now_ms, to_i64, to_u64};
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::snapshot::{Snapshot, Split};

/// A job as it was planned.
#[derive(Clone, Debug)]
pub struct JobRow {
    pub id: JobId,
    /// The SHA-256 of which the id is a prefix.
    pub fingerprint: String,
    pub name: String,
    /// JSON.
    pub params: String,
    /// The job file after substitution, TOML.
    pub resolved: String,
    pub snapshot: Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// No region yet.
    Waiting,
    /// Placed, its capacity reserved.
    Queued,
    /// Being published or worked on.
    Active,
    /// Every row has a fate; its capacity is released.
    Done,
}

impl ChildState {
    fn parse(text: &str) -> Self {
        match text {
            "queued" => Self::Queued,
            "active" => Self::Active,
            "done" => Self::Done,
            // The table's CHECK admits these four.
            _ => Self::Waiting,
        }
    }
}

/// A part of a job, placed on one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Child {
    pub name: String,
    pub rows: u64,
    pub state: ChildState,
    pub region: Option<String>,
    /// Grows with each placement; a lander with an older one is refused.
    pub token: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Ingress,
    Egress,
    Deadletter,
    Verdict,
    /// How far publishes in other processes are; only a job that has such ones has it.
    Receipts,
}

impl Role {
    /// Those that every job has.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::Deadletter, Self::Verdict];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Deadletter => "deadletter",
            Self::Verdict => "verdict",
            Self::Receipts => "receipts",
        }
    }
}

/// A topic of a job in a region, as it was when the job was prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRow {
    pub region: String,
    pub role: Role,
    pub name: String,
    pub cluster_id: String,
    pub topic_id: String,
    /// Frozen for the job: routing is a function of it.
    pub partitions: u32,
    /// `(partition, offset)` at which this job's records begin.
    pub start: Vec<(i32, i64)>,
    /// It was deleted on purpose, after everything in it had been explained.
    pub removed: bool,
}

/// Something that happened, for the timeline.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub at_ms: i64,
    pub stage: String,
    pub label: String,
    pub what: String,
    pub detail: serde_json::Value,
}

impl Store {
    /// Notes a planned job, its splits and children, or confirms that they are there already.
    ///
    /// # Errors
    /// [`Error::Store`] if another job has the same id (one chance in 2⁶⁴) or the store can't be written.
    pub async fn put_job(&self, job: &JobRow, splits: &[Split]) -> Result<()> {
        let mut tx = self.begin("note the job").await?;
        let id = job.id.to_string();
        let known: Option<String> = sqlx::query_scalar("SELECT fingerprint FROM job WHERE id = $1")
            .bind(&id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(self.failed("look for the job"))?;
        match known {
            Some(known) if known == job.fingerprint => return Ok(()),
            Some(_) => {
                return Err(Error::Store {
                    url: self.url.clone(),
                    what: "note the job".into(),
                    reason: format!(
                        "another job already has the id {id}; change the job's name or a param"
                    ),
                });
            }
            None => {}
        }
        let snapshot =
            serde_json::to_string(&job.snapshot).map_err(|e| self.damaged("snapshot", e))?;
        sqlx::query("INSERT INTO job VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(&id)
            .bind(&job.fingerprint)
            .bind(&job.name)
            .bind(&job.params)
            .bind(&job.resolved)
            .bind(snapshot)
            .bind(to_i64(job.snapshot.rows()))
            .bind(now_ms())
            .execute(&mut *tx)
            .await
            .map_err(self.failed("note the job"))?;
        for split in splits {
            sqlx::query(
                "INSERT INTO split (job, split, child, file, row_group_first, row_group_count, first_row, rows, state)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending')",
            )
            .bind(&id)
            .bind(i64::from(split.split))
            .bind(&split.child)
            .bind(to_i64(split.file as u64))
            .bind(to_i64(split.row_group_first as u64))
            .bind(to_i64(split.row_group_count as u64))
            .bind(to_i64(split.first_row))
            .bind(i64::from(split.rows))
            .execute(&mut *tx)
            .await
            .map_err(self.failed("note the splits"))?;
        }
        sqlx::query(
            "INSERT INTO child (job, name, rows, state)
             SELECT job, child, SUM(rows), 'waiting' FROM split WHERE job = $1 GROUP BY job, child",
        )
        .bind(&id)
        .execute(&mut *tx)
        .await
        .map_err(self.failed("note the child jobs"))?;
        tx.commit().await.map_err(self.failed("note the job"))
    }

    pub async fn job(&self, id: JobId) -> Result<Option<JobRow>> {
        let row = sqlx::query(
            "SELECT fingerprint, name, params, resolved, snapshot FROM job WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(self.failed("read the job"))?;
        row.map(|row| {
            let snapshot: String = row.get("snapshot");
            Ok(JobRow {
                id,
                fingerprint: row.get("fingerprint"),
                name: row.get("name"),
                params: row.get("params"),
                resolved: row.get("resolved"),
                snapshot: serde_json::from_str(&snapshot)
                    .map_err(|e| self.damaged("snapshot", e))?,
            })
        })
        .transpose()
    }

    /// The child jobs, by name.
    pub async fn children(&self, job: JobId) -> Result<Vec<Child>> {
        let rows = sqlx::query(
            "SELECT name, rows, state, region, token FROM child WHERE job = $1 ORDER BY name",
        )
        .bind(job.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the child jobs"))?;
        Ok(rows.iter().map(child).collect())
    }

    /// Notes a topic once; a second call with the same facts confirms it.
    ///
    /// # Errors
    /// [`Error::Topic`] if the topic was noted before with another id or partition count (it was recreated).
    pub async fn put_topic(&self, job: JobId, topic: &TopicRow) -> Result<()> {
        let start = serde_json::to_string(&topic.start).unwrap_or_default();
        sqlx::query(
            "INSERT INTO topic (job, region, role, name, cluster_id, topic_id, partitions, start)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(job.to_string())
        .bind(&topic.region)
        .bind(topic.role.name())
        .bind(&topic.name)
        .bind(&topic.cluster_id)
        .bind(&topic.topic_id)
        .bind(i64::from(topic.partitions))
        .bind(start)
        .execute(&self.pool)
        .await
        .map_err(self.failed("note the topic"))?;
        let noted = self.topics(job, &topic.region).await?;
        let same = |t: &TopicRow| {
            t.role == topic.role
                && (&t.name, &t.cluster_id, &t.topic_id, t.partitions)
                    == (
                        &topic.name,
                        &topic.cluster_id,
                        &topic.topic_id,
                        topic.partitions,
                    )
        };
        if noted.iter().any(same) {
            return Ok(());
        }
        Err(Error::Topic {
            topic: topic.name.clone(),
            partition: None,
            offset: None,
            reason:
                "is not the topic this job began with: it was recreated or its partitions changed. \
                     What was in it is gone; run the job under a new name or param"
                    .into(),
        })
    }

    /// The topics of a job in a region, empty before it was prepared there.
    pub async fn topics(&self, job: JobId, region: &str) -> Result<Vec<TopicRow>> {
        let rows = sqlx::query(
            "SELECT role, name, cluster_id, topic_id, partitions, start, removed FROM topic WHERE job = $1 AND region = $2",
        )
        .bind(job.to_string())
        .bind(region)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the topics"))?;
        rows.iter()
            .map(|row| {
                let role: String = row.get("role");
                let start: String = row.get("start");
                Ok(TopicRow {
                    region: region.to_owned(),
                    role: Role::ALL
                        .into_iter()
                        .chain([Role::Receipts])
                        .find(|r| r.name() == role)
                        .ok_or_else(|| self.damaged("topic role", &role))?,
                    name: row.get("name"),
                    cluster_id: row.get("cluster_id"),
                    topic_id: row.get("topic_id"),
                    partitions: u32::try_from(row.get::<i64, _>("partitions")).unwrap_or(0),
                    start: serde_json::from_str(&start)
                        .map_err(|e| self.damaged("topic start", e))?,
                    removed: row.get("removed"),
                })
            })
            .collect()
    }

    /// Notes that a topic is deleted on purpose: nobody has to look for it any more.
    pub async fn topic_removed(&self, job: JobId, region: &str, role: Role) -> Result<()> {
        sqlx::query("UPDATE topic SET removed = 1 WHERE job = $1 AND region = $2 AND role = $3")
            .bind(job.to_string())
            .bind(region)
            .bind(role.name())
            .execute(&self.pool)
            .await
            .map_err(self.failed("note that a topic is removed"))?;
        Ok(())
    }

    /// Adds a line to the job's timeline.
    pub async fn note(
        &self,
        job: JobId,
        stage: &str,
        label: &str,
        what: &str,
        detail: serde_json::Value,
    ) -> Result<()> {
        sqlx::query("INSERT INTO event (job, at_ms, stage, label, what, detail) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(job.to_string())
            .bind(now_ms())
            .bind(stage)
            .bind(label)
            .bind(what)
            .bind(detail.to_string())
            .execute(&self.pool)
            .await
            .map_err(self.failed("note an event"))?;
        Ok(())
    }

    /// The job's timeline, oldest first.
    pub async fn events(&self, job: JobId) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT at_ms, stage, label, what, detail FROM event WHERE job = $1 ORDER BY id",
        )
        .bind(job.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the events"))?;
        rows.iter()
            .map(|row| {
                let detail: String = row.get("detail");
                Ok(Event {
                    at_ms: row.get("at_ms"),
                    stage: row.get("stage"),
                    label: row.get("label"),
                    what: row.get("what"),
                    detail: serde_json::from_str(&detail).map_err(|e| self.damaged("event", e))?,
                })
            })
            .collect()
    }
}

pub(super) fn child(row: &SqliteRow) -> Child {
    let state: String = row.get("state");
    Child {
        name: row.get("name"),
        rows: to_u64(row.get("rows")),
        state: ChildState::parse(&state),
        region: row.get("region"),
        token: row.get("token"),
    }
}
