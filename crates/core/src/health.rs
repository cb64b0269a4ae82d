//! What a role says of itself while it works: nothing, or what it is waiting for.
//!
//! Owns: [`Health`], shared by all roles of a process. Does not know: HTTP; `/readyz` and `/v1/status` read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Conditions by name, such as `ingest` → "waiting for sealing: 20,000,000 readings are open". Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    conditions: Mutex<BTreeMap<&'static str, String>>,
    stopping: AtomicBool,
}

impl Health {
    /// Says what `name` waits for; the last word of a name counts.
    pub fn waiting(&self, name: &'static str, reason: impl Into<String>) {
        self.held().insert(name, reason.into());
    }

    /// Says that `name` works again.
    pub fn working(&self, name: &'static str) {
        self.held().remove(name);
    }

    /// Says that the process is going to end: from now on it asks to be left alone.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.waiting("process", "it is stopping");
    }

    /// Whether the process is going to end.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Everything that is waited for, by name; empty when all is well.
    pub fn conditions(&self) -> Vec<(&'static str, String)> {
        self.held().iter().map(|(name, reason)| (*name, reason.clone())).collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
