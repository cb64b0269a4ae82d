//! A store with one fault, and the property that must notice it.

use crate::store::{self, Store, StoreHarness};
use crate::{MemoryStore, run};
use headwater_core::BoxFuture;
use headwater_core::block::{BlockStats, OpenBlock};
use headwater_core::dead_letter::{Attempt, History, KeptLetter, PART_BYTES, RetryOutcome};
use headwater_core::filter::SeriesFilter;
use headwater_core::glob::DevicePatterns;
use headwater_core::log::Position;
use headwater_core::seal::{ChunkKey, Level, Loaded, Replacement, RollupKey, StoredChunk};
use headwater_core::series::{Series, SeriesId, SeriesKey, Shard};
use headwater_core::store::{
    Backlog, Batch, BatchId, Blocks, ChunkStats, Committed, DeadLetterQuery, DeadLetters, Ingestion, LoadBudget, NewSeries, Queries,
    Registered, Replaced, Result, SealMark, Sealing, SeriesLimits, Snapshot, StoreError, Totals, Version,
};
use headwater_core::summary::Summary;
use headwater_core::time::{TimeRange, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    IgnoresPositions,
    KeepsFencedLetters,
    CommitsMoveByMove,
    NamesTheWrongPartition,
    NumbersBatchesBackwards,
    LosesGaps,
    CountsDeadTwice,
    ForgetsOnRestart,
    RoundsValues,
    HoldsTheEndOfARange,
    IgnoresAfter,
    SortsAnswers,
    TakesNoneForAUnit,
    RefusesKnownSeries,
    IgnoresLimits,
    ShowsEverything,
    ShowsFirstPartOnly,
    PagesByTimeOnly,
    FindsNoMore,
    SnapshotMoves,
    SnapshotBeginsLate,
    DeadlineOfTotalsOnly,
    DropsABlockAtReplace,
    IgnoresVersion,
    ForgetsRollups,
    CountsOpenAndSealed,
    KeepsLostLetters,
    MissesAChunk,
    MissesARollup,
    LoadsWithoutBytes,
    MergesAgain,
    SkipsUnknownKeys,
    KeepsConflictsApart,
    MarksStandStill,
    TakesAnyRetryForGood,
    ForgetsWhatARetrySaid,
    DiscardsEverything,
    DropsTheNewest,
}

macro_rules! notices {
    ($($test:ident: $bug:ident, $property:ident, $words:literal;)*) => {$(
        #[test]
        #[should_panic(expected = $words)]
        fn $test() {
            run(async { store::$property(&mut Harness { store: MemoryStore::new(), bug: Bug::$bug }).await });
        }
    )*};
}

notices! {
    a_store_that_ignores_the_compare_and_set: IgnoresPositions, a_fenced_commit_changes_nothing_and_names_the_partition, "the commit is fenced, not";
    a_store_that_lets_two_writers_win: IgnoresPositions, of_two_writers_from_the_same_position_one_is_fenced, "exactly one writer wins";
    a_store_that_overwrites_a_first_position: IgnoresPositions, a_first_commit_is_fenced_where_a_position_exists, "the commit is fenced, not";
    a_store_that_commits_a_batch_again: IgnoresPositions, a_batch_committed_again_is_fenced, "the commit is fenced, not";
    a_store_that_keeps_letters_of_a_fenced_commit: KeepsFencedLetters, a_fenced_commit_changes_nothing_and_names_the_partition, "expecting None";
    a_store_that_moves_one_partition_after_the_other: CommitsMoveByMove, the_mismatch_of_one_partition_undoes_the_other, "left == right";
    a_store_that_names_the_wrong_partition: NamesTheWrongPartition, a_fenced_commit_changes_nothing_and_names_the_partition, "left == right";
    a_store_whose_batches_fall: NumbersBatchesBackwards, batch_ids_rise, "comes after";
    a_store_that_loses_gaps: LosesGaps, gaps_are_recorded_and_counted, "left == right";
    a_store_whose_counts_do_not_balance: CountsDeadTwice, every_snapshot_balances, "left == right";
    a_store_that_forgets: ForgetsOnRestart, everything_survives_a_restart, "left == right";
    a_store_that_gives_ids_anew: ForgetsOnRestart, ids_are_dense_and_survive_a_restart, "after a restart";
    a_store_that_rounds_values: RoundsValues, blocks_come_back_bit_by_bit, "left == right";
    a_store_that_holds_the_end_of_a_range: HoldsTheEndOfARange, blocks_are_found_by_the_times_that_they_touch, "left == right";
    a_store_that_pages_blocks_from_the_start: IgnoresAfter, paging_blocks_gives_each_once, "a page begins behind the one before";
    a_store_that_pages_series_from_the_start: IgnoresAfter, paging_series_gives_each_once, "a page begins behind the one before";
    a_store_that_pages_letters_from_the_start: IgnoresAfter, paging_dead_letters_gives_each_once, "a page begins behind the one before";
    a_store_that_sorts_its_answers: SortsAnswers, answers_come_in_the_order_of_the_question, "is answered by";
    a_store_that_takes_none_for_a_unit: TakesNoneForAUnit, the_last_unit_wins_and_none_leaves_it, "left == right";
    a_store_that_refuses_known_series: RefusesKnownSeries, the_limit_of_a_device_refuses_new_series_only, "left == right";
    a_store_without_limits: IgnoresLimits, the_limit_of_all_refuses_new_series_only, "left == right";
    a_store_that_shows_all_series: ShowsEverything, series_are_filtered_by_what_the_caller_may_see, "left == right";
    a_store_that_shows_all_letters: ShowsEverything, dead_letters_without_a_device_are_seen_by_those_who_see_all, "left == right";
    a_store_that_shows_first_parts_only: ShowsFirstPartOnly, a_dead_letter_is_put_together_from_its_parts, "are put together to";
    a_store_that_pages_letters_by_time_only: PagesByTimeOnly, paging_dead_letters_gives_each_once, "pages of 1 are full";
    a_store_that_says_no_more_too_early: FindsNoMore, pages_of_dead_letters_stay_under_their_bytes, "under 1 bytes";
    a_store_whose_snapshots_move: SnapshotMoves, a_snapshot_answers_the_same_before_and_after_a_concurrent_commit, "left == right";
    a_store_whose_snapshots_begin_late: SnapshotBeginsLate, a_snapshot_sees_the_state_in_which_it_was_taken, "left == right";
    a_store_whose_early_snapshots_see_new_series: SnapshotBeginsLate, a_registration_is_seen_by_later_snapshots_only, "it was not there yet";
    a_store_whose_snapshots_see_a_replacement: SnapshotMoves, a_snapshot_answers_the_same_before_and_after_a_concurrent_replacement, "left == right";
    a_store_that_drops_a_block_at_replace: DropsABlockAtReplace, a_block_inserted_between_load_and_replace_survives, "left == right";
    a_store_that_ignores_the_version: IgnoresVersion, a_replacement_with_an_old_version_is_lost_though_all_its_rows_are_there, "is lost, not";
    a_store_that_forgets_the_rollup: ForgetsRollups, a_rollup_takes_the_place_of_the_one_before, "after 60 to 100";
    a_store_that_counts_open_and_sealed: CountsOpenAndSealed, a_replacement_moves_readings_from_open_to_sealed, "left == right";
    a_store_that_counts_open_and_sealed_while_committing: CountsOpenAndSealed, commits_go_on_while_sealing, "received = ";
    a_store_that_keeps_letters_of_what_is_lost: KeepsLostLetters, a_replacement_of_a_block_that_is_gone_is_lost, "what is lost changes nothing";
    a_store_that_misses_a_chunk: MissesAChunk, what_is_loaded_is_the_oldest_blocks_with_all_that_they_touch, "every chunk of every day";
    a_store_that_misses_a_rollup: MissesARollup, what_is_loaded_is_the_oldest_blocks_with_all_that_they_touch, "every rollup of every window";
    a_store_without_a_budget_of_bytes: LoadsWithoutBytes, a_wide_block_is_loaded_through_its_first_series, "one block, whole, within 0 bytes";
    a_store_that_loads_more_blocks_than_fit: LoadsWithoutBytes, a_load_takes_no_more_bytes_than_its_budget, "bytes, more than";
    a_store_that_merges_again: MergesAgain, merging_keeps_every_reading_and_their_order, "is not merged again";
    a_store_that_merges_rests: MergesAgain, a_rest_takes_the_place_of_the_block_it_came_from, "a rest is not merged";
    a_store_that_skips_unknown_series: SkipsUnknownKeys, the_key_of_an_unknown_series_is_refused, "is damage, not";
    a_store_that_keeps_a_conflict_twice: KeepsConflictsApart, a_conflict_found_again_is_kept_once_and_has_no_origin, "left == right";
    a_store_that_takes_any_retry_for_good: TakesAnyRetryForGood, a_retry_is_recorded_and_settles_the_letter_when_all_was_accepted, "attempt 1";
    a_store_that_forgets_what_a_retry_said: ForgetsWhatARetrySaid, a_retry_is_recorded_and_settles_the_letter_when_all_was_accepted, "attempt 1";
    a_store_that_discards_what_is_not_there: DiscardsEverything, a_discarded_letter_keeps_its_account_and_loses_its_bytes, "there is none";
    a_store_that_drops_what_is_not_too_old: DropsTheNewest, dead_letters_that_are_too_old_go_the_oldest_first_and_are_counted, "the bound itself";
    a_store_that_forgets_what_became_of_letters: ForgetsOnRestart, what_became_of_letters_survives_a_restart, "left == right";
    a_store_that_shows_letters_of_every_state: ShowsEverything, dead_letters_are_filtered_by_state, "left == right";
    a_store_that_pages_chunks_from_the_start: IgnoresAfter, paging_chunks_gives_each_once, "a page begins behind the one before";
    a_store_that_holds_the_end_of_a_range_of_chunks: HoldsTheEndOfARange, chunks_are_found_by_series_and_range_in_order, "left == right";
    a_store_that_holds_the_end_of_a_range_of_rollups: HoldsTheEndOfARange, rollups_are_found_by_level_series_and_range_in_order, "left == right";
    a_store_that_counts_chunks_of_a_wider_range: HoldsTheEndOfARange, the_numbers_of_chunks_are_those_of_what_is_found, "left == right";
    a_store_whose_sealed_history_is_gone: ForgetsOnRestart, what_is_sealed_survives_a_restart, "left == right";
    a_store_whose_marks_stand_still: MarksStandStill, the_mark_of_a_shard_moves_whenever_what_is_sealed_in_it_does, "moved";
    a_store_that_looks_at_the_deadline_once: DeadlineOfTotalsOnly, a_snapshot_past_its_deadline_says_so, "series says";
}

struct Harness {
    store: MemoryStore,
    bug: Bug,
}

impl StoreHarness for Harness {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Store>> {
        let store = self.store.clone();
        if self.bug == Bug::ForgetsOnRestart {
            self.store = MemoryStore::new();
        }
        Box::pin(async { Arc::new(Broken { store, bug: self.bug }) as Arc<dyn Store> })
    }
}

struct Broken {
    store: MemoryStore,
    bug: Bug,
}

impl Broken {
    /// The batch with what the store would have to find in the place of what the writer believes.
    async fn overwriting(&self, batch: &Batch) -> Result<Arc<Batch>> {
        let mut batch = batch.clone();
        let stored = self.store.positions().await?;
        for moved in &mut batch.moves {
            let found = stored.iter().find(|stored| stored.log == moved.to.log && stored.partition == moved.to.partition);
            moved.expected = found.map(|found| found.next);
        }
        Ok(Arc::new(batch))
    }

    async fn one_by_one(&self, batch: &Batch) -> Result<Committed> {
        let mut rest = batch.clone();
        let moves = std::mem::take(&mut rest.moves);
        for moved in moves {
            self.store.commit(Arc::new(Batch { moves: vec![moved], ..Batch::default() })).await?;
        }
        self.store.commit(Arc::new(rest)).await
    }

    async fn open(&self, shard: Shard) -> Result<Blocks> {
        self.store.snapshot(Duration::from_secs(9)).await?.blocks(shard, TimeRange::ALL, None, usize::MAX).await
    }
}

impl Ingestion for Broken {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<Position>>> {
        self.store.positions()
    }

    fn open_readings(&self) -> BoxFuture<'_, Result<u64>> {
        self.store.open_readings()
    }

    fn register(&self, mut series: Vec<NewSeries>, limits: SeriesLimits) -> BoxFuture<'_, Result<Vec<Registered>>> {
        Box::pin(async move {
            match self.bug {
                Bug::SortsAnswers => series.sort_by(|a, b| a.key.cmp(&b.key)),
                Bug::TakesNoneForAUnit => series.iter_mut().for_each(|new| new.unit = Some(new.unit.take().unwrap_or_default())),
                Bug::RefusesKnownSeries if limits.per_device == 0 => return Ok(vec![Registered::DeviceLimit; series.len()]),
                Bug::IgnoresLimits => return self.store.register(series, crate::builders::NO_LIMITS).await,
                _ => {}
            }
            self.store.register(series, limits).await
        })
    }

    fn commit(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let outcome = match self.bug {
                Bug::IgnoresPositions => self.store.commit(self.overwriting(&batch).await?).await,
                Bug::CommitsMoveByMove => self.one_by_one(&batch).await,
                Bug::LosesGaps => self.store.commit(Arc::new(Batch { gaps: vec![], ..Batch::clone(&batch) })).await,
                _ => self.store.commit(Arc::clone(&batch)).await,
            };
            match outcome {
                Ok(committed) if self.bug == Bug::NumbersBatchesBackwards => {
                    Ok(Committed { batch: BatchId(u64::MAX - committed.batch.0), ..committed })
                }
                Err(fenced) if self.bug == Bug::KeepsFencedLetters => {
                    self.store.commit(Arc::new(Batch { dead_letters: batch.dead_letters.clone(), ..Batch::default() })).await?;
                    Err(fenced)
                }
                Err(StoreError::Fenced { expected, found, .. }) if self.bug == Bug::NamesTheWrongPartition => {
                    Err(StoreError::Fenced { partition: 0, expected, found })
                }
                outcome => outcome,
            }
        })
    }
}

impl Sealing for Broken {
    fn backlog(&self) -> BoxFuture<'_, Result<Vec<Backlog>>> {
        self.store.backlog()
    }

    fn load(&self, shard: Shard, budget: LoadBudget) -> BoxFuture<'_, Result<Option<(Version, Loaded)>>> {
        Box::pin(async move {
            let bytes = if self.bug == Bug::LoadsWithoutBytes { u64::MAX } else { budget.bytes };
            let mut loaded = self.store.load(shard, LoadBudget { bytes, ..budget }).await?;
            match (self.bug, &mut loaded) {
                (Bug::MissesAChunk, Some((_, loaded))) => drop(loaded.chunks.pop_last()),
                (Bug::MissesARollup, Some((_, loaded))) => drop(loaded.rollups.pop_last()),
                _ => {}
            }
            Ok(loaded)
        })
    }

    fn unmerged(&self, shard: Shard, most: usize, readings: u64) -> BoxFuture<'_, Result<(Version, Blocks)>> {
        Box::pin(async move {
            let (version, mut blocks) = self.store.unmerged(shard, most, readings).await?;
            if self.bug == Bug::MergesAgain {
                blocks = self.open(shard).await?;
                blocks.truncate(most);
            }
            Ok((version, blocks))
        })
    }

    fn keys<'a>(&'a self, ids: &'a [SeriesId]) -> BoxFuture<'a, Result<Vec<SeriesKey>>> {
        Box::pin(async move {
            let mut keys = Vec::new();
            for id in ids {
                match self.store.keys(&[*id]).await {
                    Err(_) if self.bug == Bug::SkipsUnknownKeys => {}
                    answer => keys.extend(answer?),
                }
            }
            Ok(keys)
        })
    }

    fn replace(&self, shard: Shard, version: Version, replacement: Arc<Replacement>) -> BoxFuture<'_, Result<Replaced>> {
        Box::pin(async move {
            let (mut version, mut replacement) = (version, Replacement::clone(&replacement));
            let found = replacement.dead_letters.clone();
            match self.bug {
                Bug::DropsABlockAtReplace => {
                    replacement.sealed_blocks = self.open(shard).await?.into_iter().map(|(batch, _)| batch).collect();
                }
                Bug::IgnoresVersion => version = self.store.unmerged(shard, 1, 0).await?.0,
                Bug::ForgetsRollups => replacement.rollups.clear(),
                Bug::KeepsConflictsApart => {
                    replacement.dead_letters.iter_mut().for_each(|letter| letter.id = Uuid::from_u128(version.0.into()))
                }
                _ => {}
            }
            let replaced = self.store.replace(shard, version, Arc::new(replacement)).await?;
            if self.bug == Bug::KeepsLostLetters && replaced == Replaced::Lost {
                self.store.commit(Arc::new(Batch { dead_letters: found, ..Batch::default() })).await?;
            }
            Ok(replaced)
        })
    }
}

impl DeadLetters for Broken {
    fn attempted(&self, mut attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>> {
        for (_, attempt) in &mut attempts {
            match self.bug {
                Bug::TakesAnyRetryForGood => attempt.outcome = RetryOutcome::Accepted,
                Bug::ForgetsWhatARetrySaid => attempt.detail.clear(),
                _ => {}
            }
        }
        self.store.attempted(attempts)
    }

    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.store.discard(id).await? || self.bug == Bug::DiscardsEverything) })
    }

    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>> {
        self.store.expire(if self.bug == Bug::DropsTheNewest { before.plus(1) } else { before }, most)
    }
}

impl Queries for Broken {
    fn snapshot(&self, lifetime: Duration) -> BoxFuture<'_, Result<Box<dyn Snapshot>>> {
        Box::pin(async move {
            let early = self.store.snapshot(lifetime).await?;
            let (store, bug) = (self.store.clone(), self.bug);
            Ok(Box::new(BrokenSnapshot { store, bug, snapshot: early, asked: false }) as Box<dyn Snapshot>)
        })
    }
}

struct BrokenSnapshot {
    store: MemoryStore,
    bug: Bug,
    snapshot: Box<dyn Snapshot>,
    asked: bool,
}

impl BrokenSnapshot {
    /// The snapshot that answers this question.
    async fn current(&mut self) -> Result<&mut dyn Snapshot> {
        let first = !std::mem::replace(&mut self.asked, true);
        let renew = match self.bug {
            Bug::SnapshotMoves | Bug::DeadlineOfTotalsOnly => true,
            Bug::SnapshotBeginsLate => first,
            _ => false,
        };
        if renew {
            self.snapshot = self.store.snapshot(Duration::from_secs(9)).await?;
        }
        Ok(&mut *self.snapshot)
    }

    fn wider(&self, range: TimeRange) -> TimeRange {
        TimeRange { to: if self.bug == Bug::HoldsTheEndOfARange { range.to.plus(1) } else { range.to }, ..range }
    }
}

impl Snapshot for BrokenSnapshot {
    fn totals(&mut self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async {
            if self.bug == Bug::DeadlineOfTotalsOnly {
                return self.snapshot.totals().await;
            }
            let mut totals = self.current().await?.totals().await?;
            if self.bug == Bug::CountsDeadTwice {
                totals.dead *= 2;
            }
            if self.bug == Bug::CountsOpenAndSealed {
                totals.unsealed += totals.stored;
            }
            Ok(totals)
        })
    }

    fn series<'a>(
        &'a mut self,
        filter: &'a SeriesFilter,
        after: Option<&'a SeriesKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Series>>> {
        Box::pin(async move {
            let mut filter = filter.clone();
            if self.bug == Bug::ShowsEverything {
                filter.allowed = DevicePatterns::All;
            }
            let after = after.filter(|_| self.bug != Bug::IgnoresAfter);
            self.current().await?.series(&filter, after, limit).await
        })
    }

    fn block_stats(&mut self, shard: Shard, range: TimeRange) -> BoxFuture<'_, Result<Vec<(BatchId, BlockStats)>>> {
        Box::pin(async move {
            let range = self.wider(range);
            self.current().await?.block_stats(shard, range).await
        })
    }

    fn blocks(
        &mut self,
        shard: Shard,
        range: TimeRange,
        after: Option<BatchId>,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(BatchId, OpenBlock)>>> {
        Box::pin(async move {
            let range = self.wider(range);
            let after = after.filter(|_| self.bug != Bug::IgnoresAfter);
            let mut blocks = self.current().await?.blocks(shard, range, after, max_bytes).await?;
            if self.bug == Bug::RoundsValues {
                blocks.iter_mut().flat_map(|(_, block)| &mut block.values).for_each(|value| *value = f64::from(*value as f32));
            }
            Ok(blocks)
        })
    }

    fn seal_marks(&mut self) -> BoxFuture<'_, Result<Option<Vec<SealMark>>>> {
        Box::pin(async {
            let marks = self.current().await?.seal_marks().await?;
            let still = |mark: SealMark| SealMark { stored: mark.stored.min(100), ..mark };
            Ok(if self.bug == Bug::MarksStandStill { marks.map(|marks| marks.into_iter().map(still).collect()) } else { marks })
        })
    }

    fn rollups<'a>(
        &'a mut self,
        shard: Shard,
        level: Level,
        series: &'a [SeriesId],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(RollupKey, Summary)>>> {
        Box::pin(async move {
            let range = self.wider(range);
            self.current().await?.rollups(shard, level, series, range).await
        })
    }

    fn chunk_stats<'a>(&'a mut self, shard: Shard, series: &'a [SeriesId], range: TimeRange) -> BoxFuture<'a, Result<ChunkStats>> {
        Box::pin(async move {
            let range = self.wider(range);
            self.current().await?.chunk_stats(shard, series, range).await
        })
    }

    fn chunks<'a>(
        &'a mut self,
        shard: Shard,
        series: &'a [SeriesId],
        range: TimeRange,
        after: Option<ChunkKey>,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(ChunkKey, StoredChunk)>>> {
        Box::pin(async move {
            let range = self.wider(range);
            let after = after.filter(|_| self.bug != Bug::IgnoresAfter);
            self.current().await?.chunks(shard, series, range, after, max_bytes).await
        })
    }

    fn dead_letters<'a>(&'a mut self, query: &'a DeadLetterQuery, max_bytes: usize) -> BoxFuture<'a, Result<(Vec<KeptLetter>, bool)>> {
        Box::pin(async move {
            let mut query = query.clone();
            match self.bug {
                Bug::IgnoresAfter => query.after = None,
                Bug::PagesByTimeOnly => query.after = query.after.map(|(time, _)| (time, Uuid::nil())),
                Bug::ShowsEverything => (query.allowed, query.state) = (DevicePatterns::All, None),
                _ => {}
            }
            let (letters, more) = self.current().await?.dead_letters(&query, max_bytes).await?;
            Ok((letters, more && self.bug != Bug::FindsNoMore))
        })
    }

    fn dead_letter(&mut self, id: Uuid) -> BoxFuture<'_, Result<Option<KeptLetter>>> {
        Box::pin(async move {
            let mut letter = self.current().await?.dead_letter(id).await?;
            if self.bug == Bug::ShowsFirstPartOnly {
                letter.iter_mut().for_each(|kept| kept.letter.bytes.truncate(PART_BYTES));
            }
            Ok(letter)
        })
    }
}
