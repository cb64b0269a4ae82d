//! What a role says of itself while it works: nothing, or what it is waiting for.
//!
//! Owns: [`Health`], shared by all roles of a process. Does not know: HTTP; `/readyz` and `/v1/status` read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Conditions by name, such as `ingest` → "waiting for sealing: 20,000,000 readings are open". Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Health {
    /// Says what `name` waits for; the last word of a name counts.
    pub fn waiting(&self, name: &'static str, reason: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, reason.into());
    }

    /// Says that `name` works again.
    pub fn working(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Everything that is waited for, by name; empty when all is well.
    pub fn conditions(&self) -> Vec<(&'static str, String)> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(name, reason)| (*name, reason.clone())).collect()
    }
}
