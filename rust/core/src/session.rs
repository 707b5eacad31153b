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
use crate::job::{self, Job};
use crate::kafka::Cluster;
use crate::registry::{self, SchemaRegistry, Settled};
use crate::snapshot::{Snapshot, hex};
use crate::store::{Child, JobRow, Role, Store, TopicRow};
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
    /// Reads the job file, pins the snapshot and notes the job in the store; again, it confirms what is there.
    ///
    /// # Errors
    /// [`Error::JobFile`], [`Error::Source`], [`Error::Schema`] or [`Error::Store`].
    pub async fn open(path: &Path, params: &BTreeMap<String, String>) -> Result<Self> {
        let job = job::load(path, params)?;
        let ingress = read_schema(&job, "schema.ingress", &job.file.schema.ingress)?;
        let egress = read_schema(&job, "schema.egress", &job.file.schema.egress)?;
        let source = job.resolve(&job.file.source.path);
        let (child_by, split_rows) = (job.file.source.child_by.clone(), job.file.source.split_rows);
        let (snapshot, splits) = tokio::task::spawn_blocking(move || {
            let snapshot = Snapshot::pin(&source)?;
            let splits = snapshot.splits(child_by.as_deref(), split_rows)?;
            Ok::<_, Error>((snapshot, splits))
        })
        .await
        .map_err(|e| job.error("source.path", e.to_string()))??;

        let mut hash = Sha256::new();
        for part in [
            job.file.name.as_str(),
            &job.identity_params(),
            &job.file.service.version,
            &snapshot.digest(),
            &how_cut(&job),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&digest[..8]);
        let id = JobId(u64::from_be_bytes(prefix));

        let store = Store::open(&job.file.store.url, &job.dir).await?;
        let row = JobRow {
            id,
            fingerprint: hex(&digest),
            name: job.file.name.clone(),
            params: serde_json::to_string(&job.params).unwrap_or_default(),
            resolved: job.resolved_toml()?,
            snapshot: snapshot.clone(),
        };
        store.put_job(&row, &splits).await?;
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
        let schema = match role {
            Role::Ingress => self.ingress.clone(),
            Role::Egress => self.egress.clone(),
            // A dead letter has the schema that it came with.
            Role::Verdict | Role::Deadletter => verdict::schema()?,
        };
        let policy = self.job.file.schema.policy(role);
        let topic = self.topic_name(region, role);
        registry::settle(registry, policy, &topic, &schema, ctx, stage).await
    }

    /// The name of one of the job's topics in a region.
    pub fn topic_name(&self, region: &str, role: Role) -> String {
        self.job
            .file
            .topics
            .template
            .replace("{name}", &self.job.file.name)
            .replace("{job}", &self.id.to_string())
            .replace("{region}", region)
            .replace("{role}", role.name())
    }

    /// The consumer group of the workers of this job in a region.
    pub fn group(&self, region: &str) -> String {
        format!("kappaflow.{}.{}.{region}", self.job.file.name, self.id)
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

/// How the job is cut is part of what it is: split numbers depend on it.
fn how_cut(job: &Job) -> String {
    let source = &job.file.source;
    format!(
        "{}/{}",
        source.child_by.as_deref().unwrap_or(""),
        source.split_rows
    )
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
