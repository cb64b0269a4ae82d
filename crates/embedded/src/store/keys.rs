//! How a chunk's or a rollup's key becomes one number, by which its row lies beside those of its neighbours.
//!
//! Owns: the packing that `migrations/store/0002_sealing.sql` describes. Does not know: statements; which slot a day has.
//! Invariants: within a slot, ids rise with (shard, series, time); no two rollups of a slot have one id, two chunks only where they
//! begin in one place.

use headwater_core::seal::Level;
use headwater_core::series::SeriesId;
use headwater_core::time::{DAY, HOUR};

/// Microseconds of a place.
const PLACE: i64 = 2_700_000;
const PLACE_BITS: u32 = 15;
const HOUR_BITS: u32 = 5;
const SERIES_BITS: u32 = 32;

/// The series with its shard, the low six bits, on top: its place among all.
const fn rank(series: SeriesId) -> i64 {
    series.0.rotate_right(6) as i64
}

const fn series(rank: i64) -> SeriesId {
    SeriesId((rank as u32).rotate_left(6))
}

/// The id of a chunk that begins `offset` microseconds (from 0, under a day) into the day.
pub(super) const fn chunk_id(slot: u16, series: SeriesId, offset: i64) -> i64 {
    ((slot as i64) << (SERIES_BITS + PLACE_BITS)) | (rank(series) << PLACE_BITS) | (offset / PLACE)
}

/// The least and the greatest id that a chunk of the series has in a slot.
pub(super) const fn chunk_ids(slot: u16, series: SeriesId) -> (i64, i64) {
    (chunk_id(slot, series, 0), chunk_id(slot, series, DAY - 1))
}

/// The series, and where in the day the place begins.
pub(super) const fn of_chunk(id: i64) -> (SeriesId, i64) {
    (series(id >> PLACE_BITS), (id & ((1 << PLACE_BITS) - 1)) * PLACE)
}

/// How far into its place a chunk begins.
pub(super) const fn into_place(offset: i64) -> i64 {
    offset % PLACE
}

/// The id of the rollup whose window begins `offset` microseconds (from 0, under a day) into the day.
pub(super) const fn rollup_id(level: Level, slot: u16, series: SeriesId, offset: i64) -> i64 {
    let level = match level {
        Level::Hour => 0,
        Level::Day => 1,
    };
    (level << (16 + SERIES_BITS + HOUR_BITS)) | ((slot as i64) << (SERIES_BITS + HOUR_BITS)) | (rank(series) << HOUR_BITS) | (offset / HOUR)
}

/// The series, and where in the day the window begins.
pub(super) const fn of_rollup(id: i64) -> (SeriesId, i64) {
    (series(id >> HOUR_BITS), (id & ((1 << HOUR_BITS) - 1)) * HOUR)
}

/// The time that lies `offset` microseconds into a day. Days come from times, so nothing is lost where a step on the way wraps.
pub(super) const fn time(day: i64, offset: i64) -> i64 {
    day.wrapping_mul(DAY).wrapping_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What rows are to lie by.
    fn order(slot: u16, series: SeriesId, offset: i64) -> (u16, u8, u32, i64) {
        (slot, series.shard().0, series.0, offset)
    }

    proptest! {
        #[test]
        fn ids_rise_with_slot_shard_series_and_time(
            a in (any::<u16>(), any::<u32>().prop_map(SeriesId), 0..DAY),
            b in (any::<u16>(), any::<u32>().prop_map(SeriesId), 0..DAY),
        ) {
            let place = |(slot, series, offset)| order(slot, series, offset / PLACE);
            prop_assert_eq!(place(a).cmp(&place(b)), chunk_id(a.0, a.1, a.2).cmp(&chunk_id(b.0, b.1, b.2)));
            let hour = |(slot, series, offset)| order(slot, series, offset / HOUR);
            for level in Level::ALL {
                prop_assert_eq!(hour(a).cmp(&hour(b)), rollup_id(level, a.0, a.1, a.2).cmp(&rollup_id(level, b.0, b.1, b.2)));
            }
            prop_assert!(rollup_id(Level::Hour, a.0, a.1, a.2) < rollup_id(Level::Day, b.0, b.1, b.2));
        }

        #[test]
        fn ids_tell_series_and_time(slot: u16, series: u32, offset in 0..DAY) {
            let series = SeriesId(series);
            let id = chunk_id(slot, series, offset);
            let (least, greatest) = chunk_ids(slot, series);
            prop_assert!(0 <= least && least <= id && id <= greatest);
            let (found, start) = of_chunk(id);
            prop_assert_eq!((found, start + into_place(offset)), (series, offset));
            prop_assert_eq!(of_rollup(rollup_id(Level::Day, slot, series, offset)), (series, offset - offset % HOUR));
        }

        #[test]
        fn times_come_back_from_day_and_offset(t: i64) {
            prop_assert_eq!(time(t.div_euclid(DAY), t.rem_euclid(DAY)), t);
        }
    }
}
