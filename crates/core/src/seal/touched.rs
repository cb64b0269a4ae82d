//! What open blocks touch of the history: which days and hours of which series. Pure.
//!
//! Owns: [`Touched`]. Does not know: how a store keys chunks and rollups. Used by stores to load what sealing the blocks will rewrite.

use super::Level;
use crate::block::OpenBlock;
use crate::series::SeriesId;
use crate::store::BatchId;
use crate::time::{DAY, HOUR};

/// The hours of a day that readings of a series touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// The UTC day, counted from 1970.
    pub day: i64,
    /// The series.
    pub series: SeriesId,
    /// Bit 0 is the day's first hour.
    pub hours: u32,
}

impl Touched {
    /// When the day begins, in microseconds.
    pub const fn midnight(self) -> i64 {
        self.day * DAY
    }

    /// The hours, 0 to 23.
    pub fn hours(self) -> impl Iterator<Item = i64> {
        (0..24).filter(move |hour| self.hours >> hour & 1 == 1).map(i64::from)
    }

    /// The windows of rollups: the hours, then the day.
    pub fn windows(self) -> impl Iterator<Item = (Level, i64)> {
        self.hours().map(move |hour| (Level::Hour, self.midnight() + hour * HOUR)).chain([(Level::Day, self.midnight())])
    }
}

/// What the blocks touch, by day and series.
pub fn touched(blocks: &[(BatchId, OpenBlock)]) -> Vec<Touched> {
    let mut all: Vec<Touched> = Vec::new();
    for (_, block) in blocks {
        let begin = all.len();
        for (&series, &time) in block.series.iter().zip(&block.times) {
            let (day, hour) = (time.div_euclid(DAY), 1 << (time.rem_euclid(DAY) / HOUR));
            match all[begin..].last_mut() {
                Some(last) if last.series == series && last.day == day => last.hours |= hour,
                _ => all.push(Touched { day, series, hours: hour }),
            }
        }
    }
    all.sort_by_key(|touched| (touched.day, touched.series));
    all.dedup_by(|later, first| {
        let same = (later.day, later.series) == (first.day, first.series);
        if same {
            first.hours |= later.hours;
        }
        same
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Shard;

    #[test]
    fn what_blocks_touch_is_their_days_and_windows() {
        let block = |series: &[u32], times: &[i64]| OpenBlock {
            shard: Shard(0),
            series: series.iter().copied().map(SeriesId).collect(),
            times: times.to_vec(),
            values: vec![0.0; times.len()],
        };
        let blocks = [(BatchId(1), block(&[0, 0, 64], &[-1, 0, DAY])), (BatchId(2), block(&[0, 64], &[3 * HOUR, DAY + 1]))];
        let found = touched(&blocks);
        let of = |day, series, hours| Touched { day, series: SeriesId(series), hours };
        assert_eq!(found, [of(-1, 0, 1 << 23), of(0, 0, 0b1001), of(1, 64, 1)]);
        assert_eq!(found[0].windows().collect::<Vec<_>>(), [(Level::Hour, -HOUR), (Level::Day, -DAY)]);
    }
}
