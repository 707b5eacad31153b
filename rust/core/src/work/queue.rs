//! Hand-over between the worker's threads. Bounded by admission: nothing is in here that holds no credit.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue with an end: blocking `pop`, and `None` once it is closed.
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

struct Inner<T> {
    items: VecDeque<T>,
    /// Threads that wait in `pop`.
    idle: usize,
    closed: bool,
}

/// The lock, whatever became of the thread that held it: every value in here is whole between statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                idle: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn push(&self, item: T) {
        lock(&self.inner).items.push_back(item);
        self.changed.notify_one();
    }

    /// The next item, or `None` once the queue is closed.
    pub fn pop(&self) -> Option<T> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return None;
            }
            if let Some(item) = inner.items.pop_front() {
                return Some(item);
            }
            inner.idle += 1;
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.idle -= 1;
        }
    }

    /// All items there are, waiting for the first no longer than `wait`.
    pub fn drain(&self, wait: Duration) -> VecDeque<T> {
        let mut inner = lock(&self.inner);
        if inner.items.is_empty() && !wait.is_zero() {
            inner = self
                .changed
                .wait_timeout(inner, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        std::mem::take(&mut inner.items)
    }

    /// Takes out what `out` picks.
    pub fn take(&self, out: impl Fn(&T) -> bool) -> Vec<T> {
        let mut inner = lock(&self.inner);
        let (taken, kept) = std::mem::take(&mut inner.items).into_iter().partition(out);
        let kept: Vec<T> = kept;
        inner.items = kept.into();
        taken
    }

    /// Threads that have nothing to do, less what already waits for them.
    pub fn hungry(&self) -> usize {
        let inner = lock(&self.inner);
        inner.idle.saturating_sub(inner.items.len())
    }

    pub fn close(&self) {
        lock(&self.inner).closed = true;
        self.changed.notify_all();
    }
}
