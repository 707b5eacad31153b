//! The slots of a service in this process: how many there are, by the limiter, and who has them, by [`super::share`]. A
//! worker by itself has all of them; in a fleet the workers of several jobs share them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limiter::{Ended, Limiter, LimiterSettings};
use super::queue::lock;
use super::share::Table;

/// How long a part that is no whole slot stays with one job.
const TURN: Duration = Duration::from_secs(1);
/// How often who waits for a slot looks for itself.
const TICK: Duration = Duration::from_millis(20);

/// See the module.
pub struct Slots {
    table: Mutex<Table>,
    /// `None` until the first worker's drivers have said how many calls they may have under way.
    limiter: Mutex<Option<Limiter>>,
    limit: AtomicU32,
    /// Whether the limiter wants to know how calls end.
    learns: AtomicBool,
    /// Calls under way now, of all workers.
    under_way: AtomicU32,
    /// A slot is free.
    freed: Notify,
    began: Instant,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            limiter: Mutex::default(),
            limit: AtomicU32::new(1),
            learns: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            freed: Notify::new(),
            began: Instant::now(),
        }
    }
}

/// A worker's place among those that share the slots, until it goes.
pub struct Seat {
    slots: Arc<Slots>,
    number: u64,
}

impl Seat {
    pub fn new(slots: Arc<Slots>, weight: f64) -> Self {
        let number = lock(&slots.table).join(weight);
        Self { slots, number }
    }

    /// The worker's drivers may have so many calls under way. The first of a service says how its limit is found.
    pub fn open(&self, most: u32, settings: LimiterSettings) {
        let slots = &self.slots;
        lock(&slots.table).bound(self.number, most);
        let mut limiter = lock(&slots.limiter);
        if limiter.is_none() {
            let learns = !matches!(settings, LimiterSettings::Static(_));
            slots.learns.store(learns, Ordering::Relaxed);
            let made = limiter.insert(Limiter::new(settings));
            slots.limit.store(made.limit(), Ordering::Relaxed);
        }
    }

    /// Calls that this worker may have under way now: its part, and what nobody uses.
    pub fn limit(&self) -> u32 {
        let (limit, turn) = self.now();
        lock(&self.slots.table).allowed(self.number, limit, turn)
    }

    /// Calls that it could begin now, if it might.
    pub fn wants(&self, ready: usize) {
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        lock(&self.slots.table).wants(self.number, ready);
    }

    /// So many records are taken, and wait for slots to be called.
    pub fn holds(&self, in_hand: usize) {
        let in_hand = u32::try_from(in_hand).unwrap_or(u32::MAX);
        lock(&self.slots.table).holds(self.number, in_hand);
    }

    /// Takes slots for as many of so many calls as may begin; each is given back by [`Seat::count`].
    pub fn take(&self, wanted: u32) -> u32 {
        let (limit, turn) = self.now();
        lock(&self.slots.table).take(self.number, wanted, limit, turn)
    }

    /// Counts calls that have begun without a slot, and such as are over.
    pub fn count(&self, begun: u32, over: u32) {
        lock(&self.slots.table).count(self.number, begun, over);
        if over > 0 {
            self.slots.freed.notify_waiters();
        }
    }

    /// Waits until a slot may be free. May be dropped at any time.
    pub async fn freed(&self) {
        let _ = tokio::time::timeout(TICK, self.slots.freed.notified()).await;
    }

    /// Gives back all it has, and takes none from now on.
    pub fn leave(&self) {
        lock(&self.slots.table).leave(self.number);
        self.slots.freed.notify_waiters();
    }

    /// So many calls begin, and so many are over; how many are under way now, of all workers.
    pub fn count_calls(&self, begin: u32, over: u32) -> u32 {
        let change = begin.wrapping_sub(over);
        self.slots
            .under_way
            .fetch_add(change, Ordering::Relaxed)
            .wrapping_add(change)
    }

    /// How calls have ended.
    pub fn ended(&self, calls: impl IntoIterator<Item = Ended>) {
        if !self.slots.learns.load(Ordering::Relaxed) {
            return;
        }
        let now = self.slots.began.elapsed();
        self.learn(|limiter| calls.into_iter().for_each(|call| limiter.ended(now, &call)));
    }

    /// The share of the processors' time that was busy of late. Of several workers one is enough to say it.
    pub fn busy(&self, share: f64) {
        if lock(&self.slots.table).is_first(self.number) {
            let now = self.slots.began.elapsed();
            self.learn(|limiter| limiter.cpu(now, share));
        }
    }

    pub fn is_shrinking(&self) -> bool {
        let limiter = lock(&self.slots.limiter);
        limiter.as_ref().is_some_and(Limiter::is_shrinking)
    }

    fn learn(&self, what: impl FnOnce(&mut Limiter)) {
        if let Some(limiter) = lock(&self.slots.limiter).as_mut() {
            what(limiter);
            self.slots.limit.store(limiter.limit(), Ordering::Relaxed);
        }
    }

    /// The limit, and the turn.
    fn now(&self) -> (u32, u64) {
        let limit = self.slots.limit.load(Ordering::Relaxed);
        (limit, self.slots.began.elapsed().as_secs() / TURN.as_secs())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}
