//! Looks at a consumer group now and then, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::Cluster;
use crate::error::{Error, Result};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// What a group has committed on the ingress topic, and how many members it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSeen {
    /// By partition; one without a commit is absent.
    pub committed: BTreeMap<i32, i64>,
    pub members: usize,
}

/// The latest look at a group. Its thread ends with it.
pub struct GroupWatch {
    seen: Arc<Mutex<Option<GroupSeen>>>,
    /// Dropped, it ends the thread.
    _end: Sender<()>,
}

impl GroupWatch {
    /// Starts to look at what `group` commits on the partitions of `topic`.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be started.
    pub fn start(cluster: Cluster, group: String, topic: String, partitions: u32) -> Result<Self> {
        let seen = Arc::new(Mutex::new(None));
        let told = Arc::clone(&seen);
        let (end, ended) = channel::<()>();
        thread::Builder::new()
            .name("kappaflow-lag".into())
            .spawn(move || {
                let mut reader = None;
                while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    let look = match &reader {
                        None => cluster.group_reader(&group).and_then(|made| {
                            let made = reader.insert(made);
                            cluster.look_at(made, &group, &topic, partitions)
                        }),
                        Some(made) => cluster.look_at(made, &group, &topic, partitions),
                    };
                    // A look that fails leaves the last one: the publish stays held back, or goes on a little.
                    if let Ok(look) = look {
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
                    }
                }
            })
            .map_err(Error::io("start a thread to look at the group of", "kafka"))?;
        Ok(Self { seen, _end: end })
    }

    /// What was seen last, once there was a look.
    pub fn latest(&self) -> Option<GroupSeen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Cluster {
    fn look_at(
        &self,
        reader: &BaseConsumer,
        group: &str,
        topic: &str,
        partitions: u32,
    ) -> Result<GroupSeen> {
        let committed = self.committed_by(reader, group, topic, partitions)?;
        let groups = reader
            .fetch_group_list(Some(group), self.timeout())
            .map_err(|e| self.error(format!("look at group {group}"), e))?;
        Ok(GroupSeen {
            committed: committed
                .into_iter()
                .filter_map(|(p, offset)| Some((p, offset?)))
                .collect(),
            members: groups.groups().iter().map(|g| g.members().len()).sum(),
        })
    }
}
