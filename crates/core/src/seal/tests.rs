//! Any commits, any sealing schedule, any late data: the invariants hold, and outcomes are those of the log's order.

use super::*;
use crate::block;
use crate::series::SHARDS;
use proptest::prelude::*;
use std::collections::HashMap;

/// A store of one shard, by the rules of load and replace.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<BatchId, OpenBlock>,
    chunks: BTreeMap<ChunkKey, StoredChunk>,
    rollups: BTreeMap<RollupKey, Summary>,
    outcomes: Outcomes,
    conflicts: Vec<Conflict>,
}

impl Model {
    fn commit(&mut self, batch: u64, rows: &[(u32, i64, i32)]) {
        let blocks = block::cut(
            &rows.iter().map(|r| SeriesId(r.0 * u32::from(SHARDS))).collect::<Vec<_>>(),
            &rows.iter().map(|r| r.1).collect::<Vec<_>>(),
            &rows.iter().map(|r| f64::from(r.2)).collect::<Vec<_>>(),
        );
        self.blocks.extend(blocks.into_iter().map(|block| (BatchId(batch), block)));
    }

    fn load(&self, n_blocks: usize) -> Loaded {
        let blocks: Vec<_> = self.blocks.iter().take(n_blocks).map(|(id, block)| (*id, block.clone())).collect();
        let mut loaded = Loaded { blocks, ..Loaded::default() };
        for (_, block) in &loaded.blocks {
            for (&series, &time) in block.series.iter().zip(&block.times) {
                for level in Level::ALL {
                    let key = RollupKey { series, level, start: level.start_of(time) };
                    loaded.rollups.extend(self.rollups.get(&key).map(|summary| (key, summary.clone())));
                }
                let start = Level::Day.start_of(time);
                let keys = ChunkKey { series, first: start }..ChunkKey { series, first: start + DAY };
                loaded.chunks.extend(self.chunks.range(keys).map(|(key, chunk)| (*key, chunk.clone())));
            }
        }
        loaded
    }

    fn seal(&mut self, n_blocks: usize, most: usize) {
        let loaded = self.load(n_blocks);
        let before: usize = loaded.blocks.iter().map(|(_, b)| b.len()).sum();
        let done = seal(Shard(0), &loaded, most).unwrap();
        let rest = done.rest.as_ref().map_or(0, |(_, b)| b.len());
        let outcomes = done.outcomes;
        assert_eq!(outcomes.stored + outcomes.duplicate + outcomes.conflict, (before - rest) as u64);
        done.sealed_blocks.iter().for_each(|id| drop(self.blocks.remove(id).expect("it was loaded")));
        self.blocks.extend(done.rest);
        done.old_chunks.iter().for_each(|key| drop(self.chunks.remove(key).expect("it was loaded")));
        for (key, chunk) in done.new_chunks {
            assert!(self.chunks.insert(key, chunk).is_none(), "a key that stays");
        }
        self.rollups.extend(done.rollups);
        self.outcomes.stored += outcomes.stored;
        self.outcomes.duplicate += outcomes.duplicate;
        self.outcomes.conflict += outcomes.conflict;
        self.conflicts.extend(done.conflicts);
    }

    fn readings(&self) -> BTreeMap<(SeriesId, i64), f64> {
        let mut all = BTreeMap::new();
        let mut last: HashMap<SeriesId, i64> = HashMap::new();
        for (key, stored) in &self.chunks {
            let chunk = Chunk::decode(&stored.bytes).unwrap();
            assert_eq!((chunk.times[0], *chunk.times.last().unwrap(), chunk.times.len() as u64), (key.first, stored.last, stored.readings));
            assert_eq!(key.day(), stored.last.div_euclid(DAY), "within one day");
            assert!(last.insert(key.series, stored.last).is_none_or(|before| before < key.first), "chunks do not overlap");
            all.extend(chunk.times.iter().zip(&chunk.values).map(|(&t, &v)| ((key.series, t), v)));
        }
        all
    }

    fn check_rollups(&self) {
        let mut expected: BTreeMap<RollupKey, Summary> = BTreeMap::new();
        for ((series, time), value) in self.readings() {
            for level in Level::ALL {
                expected.entry(RollupKey { series, level, start: level.start_of(time) }).or_default().add(time, value);
            }
        }
        expected.retain(|_, summary| summary.count() > MAX_EXACT as u64);
        assert_eq!(self.rollups, expected);
    }
}

/// Times that fall into few hours, often the same, in two days; enough for rollups.
fn rows() -> impl Strategy<Value = Vec<(u32, i64, i32)>> {
    let dense = (0u32..2, 0i64..3, 0i64..90, 0i32..3).prop_map(|(s, hour, minute, v)| (s, (hour * 60 + minute) * 60_000_000, v));
    let spread = (0u32..3, 0i64..48 * 60, 0i32..2).prop_map(|(s, minute, v)| (s, minute * 60_000_000, v));
    prop::collection::vec(prop_oneof![3 => dense, 1 => spread], 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_schedule_settles_every_reading_as_the_log_has_it(batches in prop::collection::vec((rows(), 0usize..4, 1usize..200), 1..8)) {
        let mut model = Model::default();
        let (mut truth, mut duplicates, mut conflicts) = (BTreeMap::new(), 0, 0);
        for (i, (rows, n_blocks, most)) in batches.iter().enumerate() {
            model.commit(i as u64, rows);
            for &(series, time, value) in rows {
                let key = (SeriesId(series * u32::from(SHARDS)), time);
                match truth.get(&key) {
                    None => drop(truth.insert(key, f64::from(value))),
                    Some(kept) if *kept == f64::from(value) => duplicates += 1,
                    Some(_) => conflicts += 1,
                }
            }
            model.seal(*n_blocks, *most);
            model.check_rollups();
        }
        while !model.blocks.is_empty() {
            model.seal(2, 50);
        }
        model.check_rollups();
        prop_assert_eq!(model.readings(), truth.clone());
        prop_assert_eq!(model.outcomes, Outcomes { stored: truth.len() as u64, duplicate: duplicates, conflict: conflicts });
        prop_assert_eq!(model.conflicts.len() as u64, conflicts);
        for conflict in &model.conflicts {
            prop_assert_eq!(truth[&(conflict.series, conflict.time)], conflict.kept);
            prop_assert!(conflict.kept != conflict.lost);
        }
    }

    #[test]
    fn a_dense_day_is_cut_into_few_chunks(step in 1i64..40, parts in 1usize..12) {
        let mut model = Model::default();
        let times: Vec<i64> = (0..DAY / (step * 1_000_000)).map(|i| i * step * 1_000_000).collect();
        for (i, part) in times.chunks(times.len().div_ceil(parts)).enumerate() {
            model.commit(i as u64, &part.iter().map(|&t| (0, t, 1)).collect::<Vec<_>>());
            model.seal(1, usize::MAX);
        }
        model.check_rollups();
        prop_assert_eq!(model.readings().len(), times.len());
        let (n, most) = (model.chunks.len(), 2 * times.len() / GOOD_READINGS + 2 + parts);
        prop_assert!(n <= most, "{} chunks for {} readings", n, times.len());
    }
}

#[test]
fn a_late_reading_rewrites_one_chunk() {
    let mut model = Model::default();
    model.commit(0, &(0..8640).map(|i| (0, i * 10_000_000, 1)).collect::<Vec<_>>());
    model.seal(1, usize::MAX);
    model.commit(1, &[(0, 12_345_678, 2)]);
    let done = seal(Shard(0), &model.load(1), usize::MAX).unwrap();
    assert_eq!((done.old_chunks.len(), done.outcomes.stored), (1, 1));
    assert!(done.new_chunks.len() <= 2);
}

#[test]
fn a_damaged_chunk_is_named() {
    let mut model = Model::default();
    model.commit(0, &[(0, 5, 1)]);
    model.seal(1, usize::MAX);
    model.chunks.values_mut().for_each(|chunk| chunk.bytes[5] ^= 1);
    model.commit(1, &[(0, 5, 1)]);
    let broken = seal(Shard(0), &model.load(1), usize::MAX).unwrap_err();
    assert!(broken.to_string().starts_with("the chunk of series 0 from 5 is damaged"), "{broken}");
}

proptest! {
    #[test]
    fn merging_blocks_changes_no_outcome(batches in prop::collection::vec(rows(), 2..6), first in 2usize..6) {
        let (mut plain, mut merged) = (Model::default(), Model::default());
        for (i, rows) in batches.iter().enumerate() {
            plain.commit(i as u64, rows);
            merged.commit(i as u64, rows);
        }
        let blocks: Vec<_> = merged.blocks.iter().take(first).map(|(id, block)| (*id, block.clone())).collect();
        if let Some(done) = merge_blocks(Shard(0), &blocks) {
            done.sealed_blocks.iter().for_each(|id| drop(merged.blocks.remove(id).expect("it was loaded")));
            merged.blocks.extend(done.rest);
        }
        plain.seal(usize::MAX, usize::MAX);
        merged.seal(usize::MAX, usize::MAX);
        prop_assert_eq!((plain.readings(), plain.outcomes, plain.conflicts), (merged.readings(), merged.outcomes, merged.conflicts));
    }
}

#[test]
fn a_conflict_becomes_a_letter_that_names_both_values() {
    let key = SeriesKey::new("a\"b", "t", &[("x", "1\\2")]).unwrap();
    let conflict = Conflict { series: SeriesId(0), time: 0, kept: 1.0, lost: 2.5 };
    let keys = BTreeMap::from([(SeriesId(0), key)]);
    let made = letters(&[conflict, conflict], &keys, Timestamp(7));
    assert_eq!(made[0].id, made[1].id, "the same conflict is the same letter");
    let text = r#"{"device":"a\"b","metric":"t","tags":{"x":"1\\2"},"ts":"1970-01-01T00:00:00Z","value":2.5,"kept":1.0}"#;
    assert_eq!(String::from_utf8(made[0].bytes.clone()).unwrap(), text);
}
