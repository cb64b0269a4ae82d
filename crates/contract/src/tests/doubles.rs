//! The doubles and the wrappers run the suites that backends run.

use crate::event_log::LogHarness;
use crate::store::{Store, StoreHarness};
use crate::{FaultyLog, FaultyStore, MemoryLog, MemoryStore};
use headwater_core::BoxFuture;
use headwater_core::log::EventLog;
use std::sync::Arc;

/// Logs that are opened again as clones, bare or wrapped.
struct Logs {
    log: MemoryLog,
    partitions: u32,
    wrapped: bool,
}

impl Logs {
    fn bare(partitions: u32) -> Self {
        Self { log: MemoryLog::new(partitions), partitions, wrapped: false }
    }

    fn wrapped(partitions: u32) -> Self {
        Self { wrapped: true, ..Self::bare(partitions) }
    }

    fn handed_out(&self, log: MemoryLog) -> Arc<dyn EventLog> {
        if self.wrapped { Arc::new(FaultyLog::new(log)) } else { Arc::new(log) }
    }
}

impl LogHarness for Logs {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { self.handed_out(self.log.clone()) })
    }

    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { self.handed_out(MemoryLog::new(self.partitions)) })
    }
}

mod memory_log_of_one_partition {
    use super::Logs;
    crate::event_log_suite!(|| Logs::bare(1));
}

mod memory_log_of_three_partitions {
    use super::Logs;
    crate::event_log_suite!(|| Logs::bare(3));
}

mod faulty_log_without_faults {
    use super::Logs;
    crate::event_log_suite!(|| Logs::wrapped(2));
}

/// A store that is opened again as a clone, bare or wrapped.
#[derive(Default)]
struct Stores {
    store: MemoryStore,
    wrapped: bool,
}

impl StoreHarness for Stores {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Store>> {
        let (store, wrapped) = (self.store.clone(), self.wrapped);
        Box::pin(async move {
            let store: Arc<dyn Store> = if wrapped { Arc::new(FaultyStore::new(store)) } else { Arc::new(store) };
            store
        })
    }
}

mod memory_store {
    use super::Stores;
    crate::store_suite!(Stores::default);
}

mod faulty_store_without_faults {
    use super::Stores;
    crate::store_suite!(|| Stores { wrapped: true, ..Stores::default() });
}
