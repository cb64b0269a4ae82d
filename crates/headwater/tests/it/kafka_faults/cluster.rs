//! Private Kafkas.
//!
//! Owns: starting them, and one that all tests share which do it no harm. Does not know: topics.

use headwater_servers::{Folder, Kafka, kafka};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A Kafka that ends with this, and its files with it.
pub(crate) struct Cluster {
    kafka: Kafka,
    // After the servers whose files are in it.
    _folder: Folder,
}

impl Cluster {
    /// So many brokers, each of which is a controller.
    pub(crate) fn of(nodes: usize) -> Self {
        // The least session that a member may have; theirs say how long it is.
        let properties = vec![("group.min.session.timeout.ms".to_owned(), "1000".to_owned())];
        let folder = Folder::new("kafka-faults").unwrap();
        let options = kafka::Options { properties, ..kafka::Options::default() };
        let kafka = Kafka::start(&folder.path().join("kafka"), nodes, &options).unwrap();
        Self { kafka, _folder: folder }
    }

    /// One broker for all tests that run at the same time. None of them harms it.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::of(1));
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }
}

impl Deref for Cluster {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Kafka {
        &mut self.kafka
    }
}
