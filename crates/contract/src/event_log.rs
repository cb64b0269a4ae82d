//! The contract of [`headwater_core::log`]: what every log must do, one function per property.
//!
//! Owns: the properties, their list ([`event_log_suite!`](crate::event_log_suite)) and [`LogHarness`], by which a backend
//! hands in its logs. Does not know: any backend. Invariant: a property panics or holds.

mod append;
mod delivery;
mod positions;
mod reader;
mod trimming;

pub use append::*;
pub use delivery::*;
pub use positions::*;
pub use trimming::*;

use headwater_core::BoxFuture;
use headwater_core::log::EventLog;
use std::sync::Arc;

/// Makes the logs of one property. Each property gets a new one, and drops what it got before it opens again.
///
/// The logs must delete applied records soon after `trim_to` says so (a retention of nothing): the properties wait for that.
pub trait LogHarness: Send {
    /// Opens the log; the first time it is made and empty, later it is the same one after a restart. The harness closes what it
    /// had opened before, so that nothing but stored bytes is carried over.
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>>;

    /// Makes another log, empty and with its own identity, beside the one that is open.
    fn other(&mut self) -> BoxFuture<'_, Arc<dyn EventLog>>;
}

/// Makes one test for each property of the log: `event_log_suite!(make)`, where `make` is a function without arguments that
/// returns a [`LogHarness`](crate::event_log::LogHarness), and is in scope. Properties that a backend cannot meet are named
/// with a reason, `event_log_suite!(make, except: [name = "reason"])`, and shown as ignored.
#[macro_export]
macro_rules! event_log_suite {
    ($make:expr) => {
        $crate::event_log_suite!($make, except: []);
    };
    ($make:expr, except: [$($name:ident = $reason:literal),* $(,)?]) => {
        $crate::__suite!(($) event_log, $make, [$($name = $reason),*], [
            // append.rs
            an_acknowledged_record_is_read_back_as_it_was_appended
            records_of_one_call_keep_their_order
            numbering_is_dense_from_0
            each_partition_numbers_its_own_records
            records_appended_from_many_tasks_are_there_once_and_in_each_callers_order
            the_end_covers_every_append_that_has_returned
            an_empty_append_changes_nothing
            a_record_of_the_greatest_size_goes_through
            a_device_keeps_its_partition
            an_open_log_is_writable
            the_oldest_time_is_not_later_than_any_record_from_there_on
            there_is_no_oldest_time_at_the_end
            the_receive_time_of_a_record_is_told_while_it_is_kept
            // delivery.rs
            nothing_is_delivered_before_resume
            resume_redelivers_every_record_from_a_position
            resume_again_delivers_again
            resume_may_skip_forward_while_reading
            a_dropped_next_loses_nothing
            a_waiting_next_is_woken_by_an_append
            without_a_position_reading_begins_at_the_start_and_that_is_no_gap
            // positions.rs
            a_position_before_the_start_is_a_gap_with_its_exact_range
            a_position_at_the_start_is_no_gap
            a_position_at_the_end_delivers_only_what_comes_later
            a_position_beyond_the_end_is_refused_naming_both
            a_position_of_another_log_is_refused_naming_both
            a_position_with_another_crc_is_refused_naming_both
            a_refused_resume_skips_nothing
            // trimming.rs
            trimming_never_deletes_what_is_not_applied
            trimming_backwards_changes_nothing
            a_log_trimmed_to_empty_keeps_its_numbering
            a_log_trimmed_to_empty_keeps_its_numbering_over_a_restart
            identity_and_contents_survive_a_restart
            two_logs_have_two_identities
        ]);
    };
}
