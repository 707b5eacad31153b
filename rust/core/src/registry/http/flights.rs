//! Answers that never change, asked for once: callers who come meanwhile wait for the same answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::registry::error::RegistryError;

type Flight<V> = Shared<BoxFuture<'static, Result<V, RegistryError>>>;

/// Answers by what was asked. They stay; failures go, so that the next caller asks again.
pub struct Flights<K, V>(Mutex<HashMap<K, Flight<V>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// The answer to `key`: one that is there, one that is on its way, or that of `ask`.
    pub async fn get(
        &self,
        key: K,
        ask: impl FnOnce() -> BoxFuture<'static, Result<V, RegistryError>>,
    ) -> Result<V, RegistryError> {
        let flight = self
            .held()
            .entry(key.clone())
            .or_insert_with(|| ask().shared())
            .clone();
        let answer = flight.clone().await;
        if answer.is_err() {
            let mut held = self.held();
            // A later caller's flight is not ours to end.
            if held.get(&key).is_some_and(|other| other.ptr_eq(&flight)) {
                held.remove(&key);
            }
        }
        answer
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<K, Flight<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
