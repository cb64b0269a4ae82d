//! Which stored positions the log accepts, and what it says of the others.
//!
//! Owns: the comparison, without I/O. Does not know: how bounds, ids and records are asked for.
//! Invariant: a refusal names both sides; nothing is ever skipped without a gap that says so.

use headwater_core::log::{Bounds, Gap, LogError, LogId, Position, StoredRecord};

/// Refuses a position of another log.
pub(crate) fn of_this_log(log: &LogId, partition: u32, position: Option<&Position>) -> Result<(), LogError> {
    match position {
        Some(position) if position.log != *log => Err(LogError::Corrupt(format!(
            "the stored position {} of partition {partition} is of log {}, but this is log {log}: was the topic deleted and made again?",
            position.next, position.log
        ))),
        _ => Ok(()),
    }
}

/// Where to begin, and the gap before it.
pub(crate) fn start(log: &LogId, bounds: Bounds, position: Option<&Position>) -> Result<(u64, Option<Gap>), LogError> {
    let Bounds { partition, start, end } = bounds;
    of_this_log(log, partition, position)?;
    let Some(position) = position else {
        return Ok((start, None));
    };
    if position.next > end {
        return Err(LogError::Corrupt(format!(
            "the stored position {} of partition {partition} lies beyond the end {end} of log {log}: the log has lost records",
            position.next
        )));
    }
    if position.next < start {
        return Ok((start, Some(Gap { log: log.clone(), partition, from: position.next, to: start })));
    }
    Ok((position.next, None))
}

/// The number of the last applied record, where it is still kept and known by its CRC.
pub(crate) fn last_kept(bounds: Bounds, position: &Position) -> Option<(u64, u32)> {
    let last = position.next.checked_sub(1).filter(|last| (bounds.start..bounds.end).contains(last))?;
    Some((last, position.crc?))
}

/// Refuses a log whose record is another than the one that was applied.
pub(crate) fn same_record(partition: u32, applied: u32, kept: &StoredRecord) -> Result<(), LogError> {
    if kept.crc == applied {
        return Ok(());
    }
    let (number, crc) = (kept.position, kept.crc);
    Err(LogError::Corrupt(format!("record {number} of partition {partition} has crc {crc:08x}, but {applied:08x} was applied")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { partition: 3, start: 10, end: 20 };

    fn log() -> LogId {
        LogId("kafka:c/t".to_owned())
    }

    fn at(next: u64) -> Position {
        Position { log: log(), partition: 3, next, crc: Some(7) }
    }

    #[test]
    fn without_a_position_it_begins_at_the_start_and_that_is_no_gap() {
        assert_eq!(start(&log(), BOUNDS, None).unwrap(), (10, None));
    }

    #[test]
    fn positions_within_the_log_are_taken_as_they_are() {
        for next in [10, 15, 20] {
            assert_eq!(start(&log(), BOUNDS, Some(&at(next))).unwrap(), (next, None));
        }
    }

    #[test]
    fn a_position_before_the_start_is_a_gap_with_its_exact_range() {
        let gap = Gap { log: log(), partition: 3, from: 4, to: 10 };
        assert_eq!(start(&log(), BOUNDS, Some(&at(4))).unwrap(), (10, Some(gap)));
    }

    #[test]
    fn a_position_beyond_the_end_is_refused_naming_both() {
        let words = start(&log(), BOUNDS, Some(&at(21))).unwrap_err().to_string();
        assert!(words.contains("21") && words.contains("20"), "{words}");
    }

    #[test]
    fn a_position_of_another_log_is_refused_naming_both() {
        let other = Position { log: LogId("kafka:c/other".to_owned()), ..at(15) };
        let words = start(&log(), BOUNDS, Some(&other)).unwrap_err().to_string();
        assert!(words.contains("kafka:c/other") && words.contains("kafka:c/t"), "{words}");
    }

    #[test]
    fn only_a_last_record_that_is_kept_is_looked_at() {
        assert_eq!(last_kept(BOUNDS, &at(10)), None);
        assert_eq!(last_kept(BOUNDS, &at(11)), Some((10, 7)));
        assert_eq!(last_kept(BOUNDS, &at(20)), Some((19, 7)));
        assert_eq!(last_kept(BOUNDS, &at(21)), None);
        assert_eq!(last_kept(BOUNDS, &Position { crc: None, ..at(15) }), None);
        assert_eq!(last_kept(BOUNDS, &at(0)), None);
    }
}
