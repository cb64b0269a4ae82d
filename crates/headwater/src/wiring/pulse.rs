//! Whether a restart would heal this process: what the service manager's watchdog hears of.
//!
//! Invariant: what is away or busy is no illness; what has stopped for good, or does not answer in its own process, is.

use super::Backends;
use crate::notify::Pulse;
use headwater_core::store::Ingestion;
use std::sync::Arc;

impl Backends {
    /// Whether this process is one that a restart would not heal.
    pub(crate) fn pulse(&self) -> Pulse {
        let log = self.log.clone();
        // Elsewhere the store answers as it likes; here it is a thread of this process that has to answer.
        let store = self.embedded.as_ref().map(|embedded| Arc::clone(&embedded.store));
        Arc::new(move || {
            let (log, store) = (log.clone(), store.clone());
            Box::pin(async move {
                if let Some(log) = log
                    && let Err(why) = log.writable().await
                    && !why.is_transient()
                {
                    return Err(why.to_string());
                }
                if let Some(store) = store
                    && let Err(why) = store.positions().await
                    && !why.is_transient()
                {
                    return Err(why.to_string());
                }
                Ok(())
            })
        })
    }
}
