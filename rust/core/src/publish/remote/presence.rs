//! An attempt's place in the receipts topic: it says that it is there, and hears what the others say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use roaring::RoaringBitmap;

use super::log::{Log, parse};
use super::story::{Failure, Story, What};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::publish::keeping::Turn;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(50);
/// An attempt is heard so often in the time after which it is taken for dead.
const BEATS: u32 = 6;

/// What has been heard.
struct Seen {
    story: Story,
    /// The next offset.
    next: i64,
    /// When each attempt was last heard of.
    heard: BTreeMap<String, Instant>,
    /// Own signs of life that are on their way.
    beats: VecDeque<(u64, Instant)>,
    /// Everything that was written before this time is heard.
    fresh: Instant,
    /// Why nothing more can be heard.
    trouble: Option<String>,
}

/// An attempt at a split among others.
pub struct Presence {
    log: Arc<Log>,
    split: u32,
    me: String,
    /// One that is silent for so long is taken for dead.
    lease: Duration,
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What an attempt that waited has to do.
pub enum Waited {
    /// Publish.
    Mine,
    /// Nothing: the split is closed.
    Closed,
    /// Claim the split (again): nobody else is at it.
    Free,
}

impl Presence {
    /// Starts to listen from where the job's records begin.
    ///
    /// # Errors
    /// [`Error::Topic`] if that has expired; [`Error::Kafka`]; [`Error::Io`].
    pub fn start(log: Log, job: JobId, split: u32, me: &str, lease: Duration) -> Result<Self> {
        let partition = Log::partition(&log.topic, split);
        let start = log.topic.start.iter().find(|s| s.0 == partition);
        let start = start.map_or(0, |s| s.1);
        let watermarks = log
            .cluster()
            .watermarks(&log.topic.name, log.topic.partitions)?;
        if let Some((_, low, _)) = watermarks.iter().find(|w| w.0 == partition && w.1 > start) {
            return Err(Error::Topic {
                topic: log.topic.name.clone(),
                partition: Some(partition),
                offset: Some(start),
                reason: format!(
                    "the log now starts at {low}: what was before has expired by the topic's retention"
                ),
            });
        }
        let reader = log.cluster().reader(None)?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&log.topic.name, partition, Offset::Offset(start))
            .and_then(|()| reader.assign(&assignment))
            .map_err(|e| log.cluster().error("assign partitions", e))?;
        let now = Instant::now();
        let seen = Arc::new(Mutex::new(Seen {
            story: Story::default(),
            next: start,
            heard: BTreeMap::new(),
            beats: VecDeque::new(),
            fresh: now,
            trouble: None,
        }));
        let (log, end) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
        let ear = Ear {
            log: Arc::clone(&log),
            job,
            split,
            me: me.to_owned(),
            seen: Arc::clone(&seen),
            every: lease / BEATS,
        };
        let ended = Arc::clone(&end);
        let thread = thread::Builder::new()
            .name("kappaflow-receipts".into())
            .spawn(move || ear.listen(&reader, &ended))
            .map_err(Error::io("start a thread to listen to", &log.topic.name))?;
        Ok(Self {
            log,
            split,
            me: me.to_owned(),
            lease,
            seen,
            end,
            thread: Some(thread),
        })
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn story(&self) -> Story {
        self.seen().story.clone()
    }

    /// Writes a record, and waits until it is heard here, with everything before it.
    ///
    /// # Errors
    /// [`Error::Topic`]; [`Error::Interrupted`].
    pub fn say(&self, what: What, rows: &RoaringBitmap, ctx: &Context) -> Result<()> {
        let offset = self.log.append(self.split, what, rows)?;
        self.wait(ctx, |seen| (seen.next > offset).then_some(()))
    }

    /// Claims the split, and waits until it may be published here, or need not be.
    ///
    /// # Errors
    /// As [`Presence::say`].
    pub fn take(&self, host: &str, ctx: &Context) -> Result<Waited> {
        let none = RoaringBitmap::new();
        let host = host.to_owned();
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        self.say(What::Claim { host, lease_ms }, &none, ctx)?;
        let waited = self.wait(ctx, |seen| {
            let story = &seen.story;
            if story.closed.is_some() {
                return Some(Waited::Closed);
            }
            if story.claimant.as_deref() != Some(self.me.as_str()) {
                return Some(Waited::Free);
            }
            match &story.holder {
                Some(holder) if *holder != self.me && !self.silent(seen, holder) => None,
                _ => Some(Waited::Mine),
            }
        })?;
        match waited {
            Waited::Mine => {
                self.say(What::Begin, &none, ctx)?;
                match self.seen().story.is_of(&self.me) {
                    true => Ok(Waited::Mine),
                    false => Ok(Waited::Free),
                }
            }
            other => Ok(other),
        }
    }

    /// Waits, after another has claimed the split, until it is closed or nobody is at it any more.
    ///
    /// # Errors
    /// As [`Presence::say`].
    pub fn stand_by(&self, ctx: &Context) -> Result<Waited> {
        self.wait(ctx, |seen| {
            let story = &seen.story;
            if story.closed.is_some() {
                return Some(Waited::Closed);
            }
            let alive = |who: &Option<String>| {
                who.as_ref()
                    .is_some_and(|who| *who != self.me && !self.silent(seen, who))
            };
            (!alive(&story.claimant) && !alive(&story.holder)).then_some(Waited::Free)
        })
    }

    /// Whether rows may be sent now. Only while it is sure that nobody else takes this attempt for dead.
    ///
    /// # Errors
    /// [`Error::Topic`] if nothing can be heard any more.
    pub fn turn(&self) -> Result<Turn> {
        let seen = self.seen();
        if let Some(reason) = &seen.trouble {
            return Err(self.deaf(reason));
        }
        Ok(match seen.story.is_of(&self.me) {
            false => Turn::Stop,
            true if seen.fresh.elapsed() < self.lease / 2 => Turn::Go,
            true => Turn::Wait,
        })
    }

    /// Ends without a receipt.
    ///
    /// # Errors
    /// [`Error::Topic`]: then the others wait until this attempt has been silent for long enough.
    pub fn leave(&self, failure: Option<Failure>) -> Result<()> {
        self.log
            .append(self.split, What::Yield { failure }, &RoaringBitmap::new())
            .map(|_| ())
    }

    fn silent(&self, seen: &Seen, who: &str) -> bool {
        seen.heard
            .get(who)
            .is_none_or(|heard| heard.elapsed() >= self.lease)
    }

    fn wait<T>(&self, ctx: &Context, mut until: impl FnMut(&Seen) -> Option<T>) -> Result<T> {
        loop {
            {
                let seen = self.seen();
                if let Some(found) = until(&seen) {
                    return Ok(found);
                }
                if let Some(reason) = &seen.trouble {
                    return Err(self.deaf(reason));
                }
            }
            ctx.check("publish")?;
            thread::sleep(POLL);
        }
    }

    fn deaf(&self, reason: &str) -> Error {
        Error::Topic {
            topic: self.log.topic.name.clone(),
            partition: Some(Log::partition(&self.log.topic, self.split)),
            offset: None,
            reason: format!("can't be read any more: {reason}"),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// The thread's part.
struct Ear {
    log: Arc<Log>,
    job: JobId,
    split: u32,
    me: String,
    seen: Arc<Mutex<Seen>>,
    every: Duration,
}

impl Ear {
    fn listen(&self, reader: &BaseConsumer, end: &AtomicBool) {
        let (mut beat, mut said) = (0, None::<Instant>);
        while !end.load(Ordering::Relaxed) {
            if said.is_none_or(|said| said.elapsed() >= self.every) {
                let now = Instant::now();
                (beat, said) = (beat + 1, Some(now));
                self.seen().beats.push_back((beat, now));
                // One that is not taken is not heard either, and then nothing is sent.
                let _ = self
                    .log
                    .send(self.split, What::Here { beat }, &RoaringBitmap::new());
            }
            match reader.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Ok(message)) => match parse(&message, self.job) {
                    Ok(entry) => self.hear(message.offset(), entry),
                    Err(error) => self.seen().trouble = Some(error.to_string()),
                },
                Some(Err(error)) => {
                    if let Some(
                        RDKafkaErrorCode::AutoOffsetReset
                        | RDKafkaErrorCode::OffsetOutOfRange
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::TopicAuthorizationFailed,
                    ) = error.rdkafka_error_code()
                    {
                        self.seen().trouble = Some(error.to_string());
                    }
                }
            }
        }
    }

    fn hear(&self, offset: i64, entry: Option<(super::story::Entry, RoaringBitmap)>) {
        let mut seen = self.seen();
        seen.next = offset + 1;
        let Some((entry, rows)) = entry.filter(|(entry, _)| entry.split == self.split) else {
            return;
        };
        match entry.what {
            What::Here { beat } if entry.attempt == self.me => {
                while let Some((sent, at)) = seen.beats.front().copied() {
                    if sent > beat {
                        break;
                    }
                    seen.beats.pop_front();
                    seen.fresh = at;
                }
            }
            what => seen.story.add(&entry.attempt, what, rows),
        }
        seen.heard.insert(entry.attempt, Instant::now());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
