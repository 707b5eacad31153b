//! Hand-over between the worker's threads. Bounded by admission: nothing is in here that holds no credit.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue with an end: once it is closed, nothing comes out of it.
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

struct Inner<T> {
    items: VecDeque<T>,
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
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn push(&self, item: T) {
        lock(&self.inner).items.push_back(item);
        self.changed.notify_one();
    }

    /// All items there are, once there is one; `None` once the queue is closed.
    pub fn pop_all(&self) -> Option<VecDeque<T>> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return None;
            }
            if !inner.items.is_empty() {
                return Some(std::mem::take(&mut inner.items));
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
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

    pub fn close(&self) {
        lock(&self.inner).closed = true;
        self.changed.notify_all();
    }
}
