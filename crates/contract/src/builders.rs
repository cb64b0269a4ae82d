//! Short ways to say what a test is about: readings, records, batches, dead letters.
//!
//! Owns: the builders and [`START`], the time around which tests happen. Does not know: which backend or role is tested.
//! Things with public fields come filled in, and a test changes what matters: `DeadLetter { count: 3, ..letter(1) }`.

use bytes::Bytes;
use headwater_core::block::{self, OpenBlock};
use headwater_core::columns::ReadingBatch;
use headwater_core::dead_letter::{DeadLetter, Origin, Reason};
use headwater_core::log::{Gap, LogId, Position, Record};
use headwater_core::seal::{self, Loaded, Replacement};
use headwater_core::series::{SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Batch, Committed, Ingestion, LoadBudget, Move, NewSeries, Registered, Replaced, Sealing, SeriesLimits, Version,
};
use headwater_core::time::{SECOND, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// When tests happen: 2025-11-23T15:00:00Z.
pub const START: Timestamp = Timestamp(1_763_910_000 * SECOND);

/// No limit that a test would reach.
pub const NO_LIMITS: SeriesLimits = SeriesLimits { per_device: u64::MAX, total: u64::MAX };

/// [`START`] and some seconds.
pub const fn at(seconds: i64) -> Timestamp {
    START.plus(seconds * SECOND)
}

/// One reading: a series with its unit, a time, a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    device: String,
    metric: String,
    tags: Vec<(String, String)>,
    /// The unit that it is sent with.
    pub unit: Option<String>,
    /// When it was measured.
    pub time: Timestamp,
    /// What was measured.
    pub value: f64,
}

/// A reading of value 0 at [`START`].
pub fn reading(device: &str, metric: &str) -> Reading {
    Reading { device: device.into(), metric: metric.into(), tags: Vec::new(), unit: None, time: START, value: 0.0 }
}

impl Reading {
    /// With this tag too.
    #[must_use]
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// In this unit.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// Measured at this time.
    #[must_use]
    pub const fn at(mut self, time: Timestamp) -> Self {
        self.time = time;
        self
    }

    /// With this value.
    #[must_use]
    pub const fn value(mut self, value: f64) -> Self {
        self.value = value;
        self
    }

    /// Its series.
    ///
    /// # Panics
    /// When an id breaks a rule.
    pub fn key(&self) -> SeriesKey {
        let tags: Vec<_> = self.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        SeriesKey::new(&self.device, &self.metric, &tags).expect("a reading of a series whose ids are allowed")
    }
}

/// Readings as a decoder hands them over.
///
/// # Panics
/// When an id breaks a rule.
pub fn reading_batch(readings: &[Reading]) -> ReadingBatch {
    let mut batch = ReadingBatch::default();
    for reading in readings {
        let series = batch.dictionary.insert(reading.key().as_str());
        if let Some(unit) = &reading.unit {
            batch.dictionary.set_unit(series, unit);
        }
        batch.push(series, reading.time.0, reading.value);
    }
    batch
}

/// A record that counts as one reading, received at [`START`].
pub fn record(partition: u32, payload: impl Into<Bytes>) -> Record {
    Record { partition, received_at: START, count: 1, key: None, payload: payload.into() }
}

/// A series to register, without tags or unit.
///
/// # Panics
/// When an id breaks a rule.
pub fn new_series(device: &str, metric: &str) -> NewSeries {
    NewSeries { key: reading(device, metric).key(), unit: None }
}

/// The log that [`batch`], [`letter`] and [`gap`] speak of.
pub fn test_log() -> LogId {
    LogId("test-log".to_owned())
}

/// A small, complete dead letter with an id made of `n`.
pub fn letter(n: u128) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(n),
        received_at: START,
        reason: Reason::Malformed,
        detail: "not what json says a reading is".to_owned(),
        device: None,
        format: "json".to_owned(),
        count: 1,
        bytes: format!("{{\"letter\":{n}").into_bytes(),
        part: 0,
        parts: 1,
        origin: Some(Origin { log: test_log(), partition: 0, position: 0 }),
    }
}

/// Records `from..to` of partition 0 are missing.
pub fn gap(from: u64, to: u64) -> Gap {
    Gap { log: test_log(), partition: 0, from, to }
}

/// A batch of ingest under construction.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    batch: Batch,
    uncounted: (u64, u64),
}

/// An empty batch, received at [`START`].
pub fn batch() -> BatchBuilder {
    BatchBuilder { batch: Batch { received_at: START, ..Batch::default() }, uncounted: (0, 0) }
}

impl BatchBuilder {
    /// Received at this time.
    #[must_use]
    pub fn received(mut self, at: Timestamp) -> Self {
        self.batch.received_at = at;
        self
    }

    /// With these readings, in the order of their arrival, cut into blocks. Once for each batch.
    #[must_use]
    pub fn readings(mut self, readings: &[(SeriesId, Timestamp, f64)]) -> Self {
        self.batch.blocks = blocks(readings);
        self.uncounted.0 += readings.len() as u64;
        self
    }

    /// With this dead letter (or part of one; the first part counts).
    #[must_use]
    pub fn dead(mut self, letter: DeadLetter) -> Self {
        if letter.part == 0 {
            self.uncounted.0 += letter.count;
            self.uncounted.1 += letter.count;
        }
        self.batch.dead_letters.push(letter);
        self
    }

    /// With this gap.
    #[must_use]
    pub fn gap(mut self, gap: Gap) -> Self {
        self.batch.gaps.push(gap);
        self
    }

    /// Moves a partition of [`test_log`] and counts with it everything given so far that was not counted with another one.
    #[must_use]
    pub fn moved(self, partition: u32, expected: Option<u64>, next: u64) -> Self {
        self.moved_to(Position { log: test_log(), partition, next, crc: Some(0xC0FF_EE00 + partition) }, expected)
    }

    /// Moves a position, otherwise as [`BatchBuilder::moved`].
    #[must_use]
    pub fn moved_to(mut self, to: Position, expected: Option<u64>) -> Self {
        let (received, dead) = std::mem::take(&mut self.uncounted);
        self.batch.moves.push(Move { to, expected, received, dead });
        self
    }

    /// The batch.
    pub fn build(self) -> Arc<Batch> {
        Arc::new(self.batch)
    }
}

/// Readings in the order of their arrival, cut into blocks.
pub fn blocks(readings: &[(SeriesId, Timestamp, f64)]) -> Vec<OpenBlock> {
    let series: Vec<_> = readings.iter().map(|r| r.0).collect();
    let times: Vec<_> = readings.iter().map(|r| r.1.0).collect();
    // No block holds -0.0: it is stored as 0.0.
    let values: Vec<_> = readings.iter().map(|r| r.2 + 0.0).collect();
    block::cut(&series, &times, &values)
}

/// Registers the series of some readings and commits them as one batch behind the position of partition 0 of [`test_log`].
///
/// # Panics
/// When the store refuses.
pub async fn store_readings(store: &dyn Ingestion, readings: &[Reading]) -> Committed {
    let series = readings.iter().map(|reading| NewSeries { key: reading.key(), unit: reading.unit.clone() }).collect();
    let registered = store.register(series, NO_LIMITS).await.expect("register the series of a test");
    let rows: Vec<_> =
        readings.iter().zip(registered).map(|(reading, registered)| (id_of(registered), reading.time, reading.value)).collect();
    let positions = store.positions().await.expect("read the positions");
    let stored = positions.iter().find(|position| position.log == test_log() && position.partition == 0).map(|position| position.next);
    let batch = batch().readings(&rows).moved(0, stored, stored.unwrap_or(0) + 1).build();
    store.commit(batch).await.expect("commit the readings of a test")
}

/// The id of a series that had to be registered.
///
/// # Panics
/// When it was refused.
pub fn id_of(registered: Registered) -> SeriesId {
    match registered {
        Registered::As(id) => id,
        refused => panic!("the series was refused: {refused:?}"),
    }
}

/// No budget that a test would reach.
pub const NO_BUDGET: LoadBudget = LoadBudget { readings: u64::MAX, bytes: u64::MAX };

/// Loads the oldest blocks of a shard.
///
/// # Panics
/// When the store refuses, or nothing is open.
pub async fn load(store: &(impl Sealing + ?Sized), shard: Shard, budget: LoadBudget) -> (Version, Loaded) {
    crate::within(store.load(shard, budget)).await.expect("load a shard").expect("a shard with open blocks")
}

/// Seals what was loaded, with the dead letters of its conflicts received at [`START`]: what the rollup role does between load
/// and replace.
///
/// # Panics
/// When what was loaded cannot be sealed.
pub async fn sealed(store: &(impl Sealing + ?Sized), shard: Shard, loaded: &Loaded, most: usize) -> Arc<Replacement> {
    let mut replacement = seal::seal(shard, loaded, most).expect("seal what was loaded");
    let ids: BTreeSet<SeriesId> = replacement.conflicts.iter().map(|conflict| conflict.series).collect();
    let ids: Vec<SeriesId> = ids.into_iter().collect();
    let keys = crate::within(store.keys(&ids)).await.expect("ask for the series of conflicts");
    replacement.dead_letters = seal::letters(&replacement.conflicts, &ids.into_iter().zip(keys).collect(), START);
    Arc::new(replacement)
}

/// Seals a shard until nothing of it is open.
///
/// # Panics
/// When the store refuses, or another one seals the shard.
pub async fn seal_shard(store: &(impl Sealing + ?Sized), shard: Shard, budget: LoadBudget) {
    let most = usize::try_from(budget.readings).unwrap_or(usize::MAX);
    while let Some((version, loaded)) = crate::within(store.load(shard, budget)).await.expect("load a shard") {
        let replacement = sealed(store, shard, &loaded, most).await;
        let replaced = crate::within(store.replace(shard, version, replacement)).await.expect("replace what was loaded");
        assert!(matches!(replaced, Replaced::Done { .. }), "nobody else seals shard {}", shard.0);
    }
}

/// Seals everything that is open.
///
/// # Panics
/// As [`seal_shard`].
pub async fn seal_all(store: &(impl Sealing + ?Sized)) {
    for backlog in crate::within(store.backlog()).await.expect("ask for the backlog") {
        seal_shard(store, backlog.shard, NO_BUDGET).await;
    }
}
