//! The contract of [`headwater_core::store`]: what every store must do, one function per property.
//!
//! Owns: the properties, their list ([`store_suite!`](crate::store_suite)) and [`StoreHarness`], by which a backend hands in
//! its stores. Does not know: any backend. Invariant: a property panics or holds.
//!
//! No property holds more than two snapshots at a time.

mod attempts;
mod blocks;
mod chunks;
mod commits;
mod dead_letters;
mod loads;
mod merges;
mod replacements;
mod series;
mod snapshots;
mod view;

pub use attempts::*;
pub use blocks::*;
pub use chunks::*;
pub use commits::*;
pub use dead_letters::*;
pub use loads::*;
pub use merges::*;
pub use replacements::*;
pub use series::*;
pub use snapshots::*;

use headwater_core::BoxFuture;
use headwater_core::store::{DeadLetters, Ingestion, Queries, Sealing};
use std::sync::Arc;

/// All that a store does.
pub trait Store: Ingestion + Sealing + Queries + DeadLetters {}

impl<S: Ingestion + Sealing + Queries + DeadLetters> Store for S {}

/// Makes the store of one property. Each property gets a new one, and drops what it got before it opens it again.
pub trait StoreHarness: Send {
    /// Opens the store; the first time it is made and empty, later it is the same one after a restart. The harness closes what
    /// it had opened before, so that nothing but stored bytes is carried over.
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// Makes one test for each property of the store: `store_suite!(make)`, where `make` is a function without arguments that
/// returns a [`StoreHarness`](crate::store::StoreHarness), and is in scope. Properties that a backend cannot meet are named
/// with a reason, `store_suite!(make, except: [name = "reason"])`, and shown as ignored.
#[macro_export]
macro_rules! store_suite {
    ($make:expr) => {
        $crate::store_suite!($make, except: []);
    };
    ($make:expr, except: [$($name:ident = $reason:literal),* $(,)?]) => {
        $crate::__suite!(($) store, $make, [$($name = $reason),*], [
            // commits.rs
            a_new_store_is_empty
            a_commit_is_seen_by_the_next_snapshot
            every_snapshot_balances
            open_readings_are_the_sum_of_all_blocks
            batch_ids_rise
            a_fenced_commit_changes_nothing_and_names_the_partition
            a_first_commit_is_fenced_where_a_position_exists
            a_commit_that_expects_a_position_is_fenced_where_none_exists
            the_mismatch_of_one_partition_undoes_the_other
            of_two_writers_from_the_same_position_one_is_fenced
            a_batch_committed_again_is_fenced
            positions_come_in_the_order_of_log_and_partition
            gaps_are_recorded_and_counted
            everything_survives_a_restart
            // blocks.rs
            blocks_come_back_bit_by_bit
            blocks_come_in_the_order_of_their_batches
            blocks_are_found_by_shard
            blocks_are_found_by_the_times_that_they_touch
            the_numbers_of_blocks_are_those_of_their_readings
            paging_blocks_gives_each_once
            // series.rs
            registering_inserts_or_finds
            ids_are_dense_and_survive_a_restart
            answers_come_in_the_order_of_the_question
            series_registered_by_two_at_once_have_one_id
            registering_nothing_answers_nothing
            a_registration_is_seen_by_later_snapshots_only
            the_last_unit_wins_and_none_leaves_it
            the_limit_of_a_device_refuses_new_series_only
            the_limit_of_all_refuses_new_series_only
            series_are_listed_by_the_bytes_of_their_keys
            series_are_filtered_by_every_part
            series_are_filtered_by_what_the_caller_may_see
            paging_series_gives_each_once
            // dead_letters.rs
            a_dead_letter_is_shown_as_it_was_committed
            a_dead_letter_is_put_together_from_its_parts
            a_dead_letter_that_does_not_exist_is_none
            a_dead_letter_committed_twice_is_kept_once
            dead_letters_are_listed_newest_first
            dead_letters_are_filtered_by_reason_device_and_time
            dead_letters_without_a_device_are_seen_by_those_who_see_all
            paging_dead_letters_gives_each_once
            pages_of_dead_letters_stay_under_their_bytes
            // attempts.rs
            a_dead_letter_begins_open_and_seen_once
            a_dead_letter_that_comes_again_is_counted_and_seen_again
            a_retry_is_recorded_and_settles_the_letter_when_all_was_accepted
            retries_are_recorded_together_and_unknown_letters_are_none
            a_letter_that_comes_again_after_its_retry_is_open_again
            a_retry_that_was_refused_before_it_was_recorded_leaves_the_letter_open
            a_discarded_letter_keeps_its_account_and_loses_its_bytes
            a_letter_that_is_not_whole_is_neither_retried_nor_discarded
            dead_letters_are_filtered_by_state
            what_becomes_of_letters_moves_no_count_of_readings
            dead_letters_that_are_too_old_go_the_oldest_first_and_are_counted
            what_became_of_letters_survives_a_restart
            // snapshots.rs
            a_snapshot_answers_the_same_before_and_after_a_concurrent_commit
            a_snapshot_sees_the_state_in_which_it_was_taken
            a_snapshot_answers_the_same_before_and_after_a_concurrent_replacement
            a_snapshot_past_its_deadline_says_so
            the_mark_of_a_shard_moves_whenever_what_is_sealed_in_it_does
            // loads.rs
            what_is_loaded_is_the_oldest_blocks_with_all_that_they_touch
            a_load_takes_at_least_one_block_and_no_more_readings_than_its_budget
            a_load_takes_no_more_bytes_than_its_budget
            a_wide_block_is_loaded_through_its_first_series
            a_shard_without_open_blocks_is_not_loaded
            the_backlog_tells_readings_unmerged_widest_and_oldest
            the_keys_of_series_come_in_the_order_of_the_question
            the_key_of_an_unknown_series_is_refused
            // replacements.rs
            a_replacement_moves_readings_from_open_to_sealed
            a_block_inserted_between_load_and_replace_survives
            of_two_replacements_of_one_load_one_is_lost
            a_replacement_with_an_old_version_is_lost_though_all_its_rows_are_there
            a_replacement_of_a_block_that_is_gone_is_lost
            a_replacement_of_a_chunk_that_is_gone_is_lost
            replacing_one_shard_leaves_the_others
            a_rollup_takes_the_place_of_the_one_before
            a_conflict_found_again_is_kept_once_and_has_no_origin
            what_is_sealed_survives_a_restart
            commits_go_on_while_sealing
            // merges.rs
            a_rest_takes_the_place_of_the_block_it_came_from
            merging_keeps_every_reading_and_their_order
            a_merged_block_stands_for_the_oldest_of_its_blocks
            unmerged_blocks_come_oldest_first_within_their_limits
            // chunks.rs
            chunks_come_back_bit_by_bit
            chunks_are_found_by_series_and_range_in_order
            the_numbers_of_chunks_are_those_of_what_is_found
            rollups_are_found_by_level_series_and_range_in_order
            paging_chunks_gives_each_once
            edges_are_those_of_the_first_and_the_last_chunk
        ]);
    };
}
