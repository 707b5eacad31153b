//! What a worker may ask of its service now, by the windows of its job and its share in the store.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::budget::{BEAT, Budget, Grant};
use super::queue::lock;
use super::worker::Worker;
use crate::error::Result;
use crate::job::{Service, ServiceBudget, Windows};
use crate::session::Session;
use crate::store::Store;

/// A worker that had something to call wants calls for so long, so that a moment without costs it no share.
const WANTS: Duration = Duration::from_secs(10);

/// A worker's place in a budget.
pub struct Allowance {
    store: Store,
    name: String,
    budget: ServiceBudget,
    windows: Windows,
    number: i64,
    /// When the worker last had something to call, on its own clock.
    wanted: Option<Duration>,
}

impl Allowance {
    /// `None`: the job has no budget.
    ///
    /// # Errors
    /// [`crate::Error::Store`]; [`crate::Error::JobFile`] for what is no window.
    pub async fn new(session: &Session) -> Result<Option<Self>> {
        let service = &session.job.file.service;
        let Some(budget) = service.budget.clone() else {
            return Ok(None);
        };
        let windows = budget.check();
        let windows = windows
            .map_err(|(key, reason)| session.job.error(format!("service.budget.{key}"), reason))?;
        Ok(Some(Self {
            store: session.store.clone(),
            name: budget.name.clone().unwrap_or_else(|| service.address()),
            budget,
            windows,
            number: session.store.next("worker").await?,
            wanted: None,
        }))
    }

    /// Keeps the worker's budget. A store that does not answer leaves it as it is, until it is too old to be used.
    pub async fn keep(&mut self, worker: &Worker) -> Infallible {
        let mut tick = tokio::time::interval(BEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.beat(worker).await;
        }
    }

    async fn beat(&mut self, worker: &Worker) {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let closed = self.windows.closed(unix);
        let begun = worker.now();
        if !worker.state().schedule.is_idle() {
            self.wanted = Some(begun);
        }
        let recently = self.wanted.is_some_and(|at| begun < at + WANTS);
        let wants = closed.is_none() && recently;
        let rate = self.budget.max_calls_per_s;
        let noted = self.store.beat(&self.name, self.number, wants, rate).await;
        // Held from when it was asked for: others count from when it was noted.
        let grant = |grant| lock(&worker.budget).grant(begun, grant);
        let waits = match (closed, noted) {
            (Some(opens), _) => {
                grant(Grant::Closed);
                let zone = self.budget.time_zone.as_deref().unwrap_or("UTC");
                Some(format!(
                    "outside service.budget.windows; opens {opens} {zone}"
                ))
            }
            (None, Ok((me, others))) => {
                grant(Grant::share(me, &others));
                None
            }
            (None, Err(error)) => Some(format!("its budget is not known: {error}")),
        };
        *lock(&worker.waits) = waits;
        worker.news.notify_waiters();
    }

    /// Leaves its share to the others.
    pub async fn leave(self) {
        // Who can't say so is forgotten soon.
        let _ = self.store.leave_budget(&self.name, self.number).await;
    }
}

impl Budget {
    /// What a worker begins with.
    pub fn of(service: &Service) -> Self {
        match service.budget {
            None => Self::FREE,
            Some(_) => Self::CLOSED,
        }
    }
}
