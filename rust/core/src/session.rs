//! An opened job: its file, its store, its plan. Every stage begins here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kappaflow_avro::AvroSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::http::has;
use crate::job::{self, Job};
use crate::kafka::Cluster;
use crate::registry::{self, SchemaRegistry, Settled};
use crate::snapshot::{self, Planner, Snapshot, hex};
use crate::store::{Child, JobRow, Role, SplitState, Store, Submission, TopicRow};
use crate::table::Registrar;
use crate::verdict;

/// An opened job, planned: the snapshot is pinned, splits and children are in the store.
pub struct Session {
    pub job: Job,
    pub store: Store,
    pub id: JobId,
    pub snapshot: Snapshot,
    pub ingress: AvroSchema,
    pub egress: AvroSchema,
}

/// How a job's snapshot is found.
#[derive(Clone, Default)]
pub struct Opening {
    /// Pins the source as it is now, as a new job if it changed, though the request is pinned already.
    pub new_snapshot: bool,
    /// Plans a source that is no directory of Parquet files. `None`: only one that is pinned already can be opened.
    pub planner: Option<Planner>,
    /// Speaks a table's format, if it is none of ours. `None`: such a table can't be reached.
    pub registrar: Option<Registrar>,
}

/// What planning a job gives.
#[derive(Clone, Debug, Serialize)]
pub struct JobPlan {
    pub job: String,
    pub name: String,
    pub rows: u64,
    pub files: usize,
    pub splits: usize,
    pub children: Vec<Child>,
}

impl Session {
    /// Reads the job file and notes the job and its pinned snapshot in the store; again, it confirms what is there.
    ///
    /// # Errors
    /// [`Error::JobFile`], [`Error::Source`], [`Error::Schema`] or [`Error::Store`]; [`Error::NotReady`] if nothing is
    /// pinned and the source needs a planner.
    pub async fn open(path: &Path, params: &BTreeMap<String, String>) -> Result<Self> {
        Self::open_with(path, params, Opening::default()).await
    }

    /// The same, with a say in how the snapshot is found.
    ///
    /// # Errors
    /// As [`Session::open`], and those of the planner.
    pub async fn open_with(
        path: &Path,
        params: &BTreeMap<String, String>,
        opening: Opening,
    ) -> Result<Self> {
        let mut job = job::load(path, params)?;
        job.registrar.clone_from(&opening.registrar);
        Self::of(job, opening).await
    }

    /// The same of a job file that is read already.
    ///
    /// # Errors
    /// As [`Session::open_with`].
    pub async fn of(job: Job, opening: Opening) -> Result<Self> {
        let ingress = read_schema(&job, "schema.ingress", &job.file.schema.ingress)?;
        let egress = read_schema(&job, "schema.egress", &job.file.schema.egress)?;
        if let Some(http) = &job.file.service.http {
            http.check_fields(&ingress, &egress)
                .map_err(|(key, reason)| job.error(format!("service.http.{key}"), reason))?;
        }
        if let Some(field) = &job.file.service.as_of {
            has(&ingress, "ingress", "as_of", field)
                .map_err(|(key, reason)| job.error(format!("service.{key}"), reason))?;
        }
        let store = Store::open(&job.file.store.url, &job.dir).await?;
        let request = snapshot::request(&job);
        let known = match opening.new_snapshot {
            true => None,
            false => store.pinned(&request).await?,
        };
        let (id, snapshot) = match known {
            Some(known) => known,
            None => pin(&job, &store, &request, opening).await?,
        };
        let snapshot = snapshot.reached_by(snapshot::reach(&job));
        let session = Self {
            job,
            store,
            id,
            snapshot,
            ingress,
            egress,
        };
        let dir = session.work_dir();
        std::fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
        Ok(session)
    }

    /// A job that was submitted to a fleet, as it was then. Nothing is read but what the store has, and nothing is written.
    ///
    /// # Errors
    /// [`Error::JobFile`] or [`Error::Schema`], if this version can't read what was kept; [`Error::Store`].
    pub async fn submitted(store: Store, submission: &Submission) -> Result<Self> {
        let path = Path::new(&submission.path);
        let params = serde_json::from_str(&submission.params).unwrap_or_default();
        let job = job::resolved(path, params, &submission.resolved)?;
        let row = store.job(submission.job).await?;
        let row = row.ok_or_else(|| job.error("(job)", "the store does not have it"))?;
        let schema = |what: &str, text: &str| {
            AvroSchema::parse(text).map_err(|e| Error::Schema {
                what: what.to_owned(),
                reason: e.to_string(),
            })
        };
        Ok(Self {
            ingress: schema(&job.file.schema.ingress, &submission.ingress)?,
            egress: schema(&job.file.schema.egress, &submission.egress)?,
            id: submission.job,
            snapshot: row.snapshot,
            store,
            job,
        })
    }

    /// `.kappaflow/<job>` beside the job file: rejects and other files of this job.
    pub fn work_dir(&self) -> PathBuf {
        self.job.work_dir().join(self.id.to_string())
    }

    pub async fn plan(&self) -> Result<JobPlan> {
        Ok(JobPlan {
            job: self.id.to_string(),
            name: self.job.file.name.clone(),
            rows: self.snapshot.rows(),
            files: self.snapshot.files.len(),
            splits: self.store.splits(self.id, None).await?.len(),
            children: self.store.children(self.id).await?,
        })
    }

    pub fn cluster(&self, region: &str) -> Result<Cluster> {
        Cluster::of(&self.job, region)
    }

    pub fn registry(&self, region: &str) -> Result<Arc<dyn SchemaRegistry>> {
        let cluster = self.cluster(region)?;
        Ok(registry::open(&cluster.region.registry, &self.job.dir)?)
    }

    /// What the records of a topic of the job are written with; found, and registered if need be, before any is sent.
    ///
    /// # Errors
    /// As [`registry::settle`].
    pub async fn settle(
        &self,
        registry: &Arc<dyn SchemaRegistry>,
        region: &str,
        role: Role,
        ctx: &Context,
        stage: &'static str,
    ) -> Result<Settled> {
        let schema = self.schema(role)?;
        let policy = self.job.file.schema.policy(role);
        let topic = self.topic_name(region, role);
        registry::settle(registry, policy, &topic, &schema, ctx, stage).await
    }

    /// The job's schema of a role's records.
    ///
    /// # Errors
    /// [`Error::Schema`] only if the one that we wrote ourselves is none.
    pub fn schema(&self, role: Role) -> Result<AvroSchema> {
        match role {
            Role::Ingress => Ok(self.ingress.clone()),
            Role::Egress => Ok(self.egress.clone()),
            // A dead letter has the schema that it came with.
            Role::Verdict | Role::Deadletter | Role::Receipts => verdict::schema(),
        }
    }

    /// Whether the job has deleted its topic of a role, as `topics.cleanup` said.
    pub async fn removed(&self, region: &str, role: Role) -> bool {
        self.topic(region, role).await.is_ok_and(|t| t.removed)
    }

    /// The name of one of the job's topics in a region.
    pub fn topic_name(&self, region: &str, role: Role) -> String {
        let topics = &self.job.file.topics;
        let name = topics
            .template
            .replace("{name}", &self.job.file.name)
            .replace("{job}", &self.id.to_string())
            .replace("{region}", region)
            .replace("{role}", role.name());
        format!("{}{name}", topics.prefix)
    }

    /// The consumer group of the workers of this job in a region.
    pub fn group(&self, region: &str) -> String {
        let prefix = &self.job.file.topics.group_prefix;
        format!("{prefix}{}.{}.{region}", self.job.file.name, self.id)
    }

    /// The job's topic of a role, as it was noted when the region was prepared.
    ///
    /// # Errors
    /// [`Error::NotReady`] before `dispatch` has prepared the region.
    pub async fn topic(&self, region: &str, role: Role) -> Result<TopicRow> {
        let topics = self.store.topics(self.id, region).await?;
        topics
            .into_iter()
            .find(|t| t.role == role)
            .ok_or_else(|| Error::NotReady {
                what: format!(
                    "job {} has no topics in region {region} yet",
                    self.job.file.name
                ),
                fix: "run `kappaflow dispatch` on the job file first".into(),
            })
    }

    /// Whether every split of the child jobs placed in a region is closed: no more ingress will come.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn published(&self, region: &str) -> Result<bool> {
        let children = self.store.children(self.id).await?;
        let here: Vec<&str> = children
            .iter()
            .filter(|c| c.region.as_deref() == Some(region))
            .map(|c| c.name.as_str())
            .collect();
        let splits = self.store.splits(self.id, None).await?;
        let mut placed = splits
            .iter()
            .filter(|s| here.contains(&s.split.child.as_str()));
        Ok(placed.all(|s| s.state == SplitState::Closed))
    }

    /// The child jobs placed in a region, or all placed ones.
    ///
    /// # Errors
    /// [`Error::NotReady`] if none is placed there.
    pub async fn placed(&self, region: Option<&str>) -> Result<Vec<Child>> {
        if let Some(region) = region {
            // A region that the job does not have is another mistake than one without a child job.
            self.cluster(region)?;
        }
        let children: Vec<Child> = self
            .store
            .children(self.id)
            .await?
            .into_iter()
            .filter(|c| c.region.is_some() && (region.is_none() || c.region.as_deref() == region))
            .collect();
        if children.is_empty() {
            return Err(Error::NotReady {
                what: match region {
                    Some(region) => format!(
                        "no child job of {} is placed in region {region}",
                        self.job.file.name
                    ),
                    None => format!("no child job of {} is placed yet", self.job.file.name),
                },
                fix: "run `kappaflow dispatch` on the job file first".into(),
            });
        }
        Ok(children)
    }
}

/// Pins the source as it is now, and notes it as what the request is answered with.
async fn pin(
    job: &Job,
    store: &Store,
    request: &str,
    opening: Opening,
) -> Result<(JobId, Snapshot)> {
    let source = job.clone();
    let (planner, new_snapshot) = (opening.planner, opening.new_snapshot);
    let (snapshot, splits) = tokio::task::spawn_blocking(move || {
        let snapshot = snapshot::take(&source, planner.as_ref(), new_snapshot)?;
        let cut = &source.file.source;
        let splits = snapshot.splits(cut.child_by.as_deref(), cut.split_rows)?;
        if splits.is_empty() {
            return Err(source.error(
                "source",
                match cut.filter {
                    Some(_) => "no row of it passes source.filter",
                    None => "it has no rows",
                },
            ));
        }
        Ok::<_, Error>((snapshot, splits))
    })
    .await
    .map_err(|e| job.error("source", e.to_string()))??;

    let mut hash = Sha256::new();
    for part in [
        job.file.name.as_str(),
        &job.identity_params(),
        &job.file.service.version,
        &snapshot.digest(),
        &how_cut(job),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&digest[..8]);
    let row = JobRow {
        id: JobId(u64::from_be_bytes(prefix)),
        fingerprint: hex(&digest),
        name: job.file.name.clone(),
        params: serde_json::to_string(&job.params).unwrap_or_default(),
        resolved: job.resolved_toml()?,
        snapshot,
    };
    store.put_job(&row, &splits).await?;
    store.pin(request, &row, opening.new_snapshot).await
}

/// How the job is cut and routed is part of what it is: split numbers and partitions depend on it.
fn how_cut(job: &Job) -> String {
    let (source, topics) = (&job.file.source, &job.file.topics);
    let cut = format!(
        "{}/{}",
        source.child_by.as_deref().unwrap_or(""),
        source.split_rows
    );
    match topics.routed_by_columns() {
        false => cut,
        true => format!(
            "{cut}/{:?}/{:?}/{:?}",
            topics.key, topics.key_format, topics.partition_column
        ),
    }
}

pub(crate) fn read_schema(job: &Job, key: &str, path: &str) -> Result<AvroSchema> {
    let path = job.resolve(path);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| job.error(key, format!("can't read {}: {e}", path.display())))?;
    AvroSchema::parse(&text).map_err(|e| Error::Schema {
        what: path.display().to_string(),
        reason: e.to_string(),
    })
}
