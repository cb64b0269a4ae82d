//! Open blocks: what one batch of ingest brought for one shard, sorted, and their compact bytes.
//!
//! Owns: [`OpenBlock`], cutting a batch into blocks, the encoding. Does not know: where blocks are kept; chunks (later).
//! Invariants: columns have one length and are sorted by (series, time), readings of one key in the order of their arrival;
//! all series are of the block's shard.
//!
//! Encoding, version 1: `"HB"`, version, shard, then varints: readings, series; for each series the id's difference to the one
//! before (in steps of 64: all are of one shard) and how many readings it has; the column of times and the column of values as
//! [`crate::codec`] writes them; CRC-32 (IEEE, little-endian) of all before it.

use crate::codec::{self, Damaged, Reader};
use crate::series::{SHARDS, SeriesId, Shard};
use std::ops::Range;

const MAGIC: [u8; 3] = [b'H', b'B', 1];
/// No block holds more readings than this: a batch closes at 200,000 and a merge stays under it.
pub const MAX_READINGS: usize = 1 << 22;

/// The readings of one batch and one shard.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenBlock {
    /// The shard of all its series.
    pub shard: Shard,
    /// For each reading the id of its series.
    pub series: Vec<SeriesId>,
    /// Microseconds since the epoch.
    pub times: Vec<i64>,
    /// Finite, never −0.0.
    pub values: Vec<f64>,
}

/// What stands beside a block's bytes, so that they need not be read to know whether they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockStats {
    /// Readings, repeats included.
    pub readings: u64,
    /// Distinct series.
    pub series: u64,
    /// The least time.
    pub min_time: i64,
    /// The greatest time.
    pub max_time: i64,
}

impl OpenBlock {
    /// How many readings it holds.
    pub const fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The places of one series' readings; empty where it has none.
    pub fn run(&self, series: SeriesId) -> Range<usize> {
        let start = self.series.partition_point(|&s| s < series);
        let len = self.series[start..].partition_point(|&s| s == series);
        start..start + len
    }

    /// Its numbers. An empty block has times 0.
    pub fn stats(&self) -> BlockStats {
        let mut distinct = 0;
        let mut last = None;
        for &series in &self.series {
            distinct += u64::from(last != Some(series));
            last = Some(series);
        }
        BlockStats {
            readings: self.len() as u64,
            series: distinct,
            min_time: self.times.iter().copied().min().unwrap_or(0),
            max_time: self.times.iter().copied().max().unwrap_or(0),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.len() * 6);
        out.extend_from_slice(&MAGIC);
        out.push(self.shard.0);
        codec::put_varint(&mut out, self.len() as u64);
        codec::put_varint(&mut out, self.stats().series);
        let mut last = u32::from(self.shard.0);
        for run in self.series.chunk_by(|a, b| a == b) {
            let id = run[0].0;
            codec::put_varint(&mut out, u64::from((id - last) / u32::from(SHARDS)));
            codec::put_varint(&mut out, run.len() as u64);
            last = id;
        }
        codec::put_times(&mut out, &self.times);
        codec::put_values(&mut out, &self.values);
        codec::put_crc(&mut out, 0);
        out
    }

    /// A block from its bytes.
    ///
    /// # Errors
    /// When a single bit is not as [`OpenBlock::encode`] wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new(codec::check_crc(bytes)?);
        if reader.array::<3>()? != MAGIC {
            return Err(Damaged("not an open block of version 1"));
        }
        let shard = Shard(reader.byte()?);
        if shard.0 >= SHARDS {
            return Err(Damaged("a shard beyond the last"));
        }
        let n = reader.count(1)?;
        if n > MAX_READINGS {
            return Err(Damaged("more readings than a block holds"));
        }
        let series = read_series(&mut reader, shard, n)?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        codec::read_times(&mut reader, n, &mut times)?;
        codec::read_values(&mut reader, n, &mut values)?;
        reader.finish()?;
        let block = Self { shard, series, times, values };
        if !block.is_sorted() {
            return Err(Damaged("readings that are not sorted"));
        }
        Ok(block)
    }

    fn is_sorted(&self) -> bool {
        (1..self.len()).all(|i| (self.series[i - 1], self.times[i - 1]) <= (self.series[i], self.times[i]))
    }
}

fn read_series(reader: &mut Reader<'_>, shard: Shard, n: usize) -> Result<Vec<SeriesId>, Damaged> {
    let runs = reader.count(2)?;
    let mut series = Vec::with_capacity(n);
    let mut id = u64::from(shard.0);
    for i in 0..runs {
        let steps = reader.varint()?;
        if i > 0 && steps == 0 {
            return Err(Damaged("a series that comes twice"));
        }
        id = steps.checked_mul(u64::from(SHARDS)).and_then(|step| id.checked_add(step)).ok_or(Damaged("a series id beyond 32 bits"))?;
        let id = SeriesId(u32::try_from(id).map_err(|_| Damaged("a series id beyond 32 bits"))?);
        let len = reader.varint()?;
        if len == 0 || len > (n - series.len()) as u64 {
            return Err(Damaged("series and readings that do not add up"));
        }
        series.resize(series.len() + len as usize, id);
    }
    if series.len() != n {
        return Err(Damaged("series and readings that do not add up"));
    }
    Ok(series)
}

/// Cuts readings (in the order of their arrival) into blocks, one for each shard that they touch, in the order of shards.
/// The three columns must have one length.
pub fn cut(series: &[SeriesId], times: &[i64], values: &[f64]) -> Vec<OpenBlock> {
    let mut order: Vec<(u32, i64, u32)> =
        series.iter().zip(times).enumerate().map(|(i, (s, &t))| (s.0.rotate_right(6), t, i as u32)).collect();
    // The shard is the id's low six bits: rotated to the top, the sort groups by shard, then by id within it.
    order.sort_unstable();
    order
        .chunk_by(|a, b| a.0 >> 26 == b.0 >> 26)
        .map(|group| OpenBlock {
            shard: Shard((group[0].0 >> 26) as u8),
            series: group.iter().map(|&(s, ..)| SeriesId(s.rotate_left(6))).collect(),
            times: group.iter().map(|&(_, t, _)| t).collect(),
            values: group.iter().map(|&(.., i)| values[i as usize]).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn readings() -> impl Strategy<Value = Vec<(SeriesId, i64, f64)>> {
        let value = prop_oneof![(-9999i64..9999).prop_map(|n| n as f64 / 100.0), any::<f64>().prop_filter("finite", |v| v.is_finite())];
        prop::collection::vec(
            (prop_oneof![0u32..300, any::<u32>()].prop_map(SeriesId), any::<i32>().prop_map(i64::from), value.prop_map(|v| v + 0.0)),
            0..200,
        )
    }

    fn cut_rows(rows: &[(SeriesId, i64, f64)]) -> Vec<OpenBlock> {
        let column = |f: fn(&(SeriesId, i64, f64)) -> i64| rows.iter().map(f).collect::<Vec<_>>();
        cut(&rows.iter().map(|r| r.0).collect::<Vec<_>>(), &column(|r| r.1), &rows.iter().map(|r| r.2).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn cutting_sorts_and_keeps_the_order_of_arrival(rows in readings()) {
            let mut expected = rows.clone();
            expected.sort_by_key(|&(s, t, _)| (s.shard(), s, t));
            let blocks = cut_rows(&rows);
            let got: Vec<_> = blocks.iter().flat_map(|b| (0..b.len()).map(|i| (b.series[i], b.times[i], b.values[i]))).collect();
            prop_assert_eq!(got, expected);
            for block in &blocks {
                prop_assert!(block.series.iter().all(|s| s.shard() == block.shard));
                for &series in &block.series {
                    prop_assert!(block.run(series).all(|i| block.series[i] == series));
                    prop_assert_eq!(block.run(series).len(), rows.iter().filter(|r| r.0 == series).count());
                }
            }
        }

        #[test]
        fn blocks_come_back_from_their_bytes(rows in readings()) {
            for block in cut_rows(&rows) {
                prop_assert_eq!(OpenBlock::decode(&block.encode()), Ok(block));
            }
        }

        #[test]
        fn every_flipped_bit_is_refused(rows in readings(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            for block in cut_rows(&rows) {
                let mut bytes = block.encode();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                prop_assert!(OpenBlock::decode(&bytes).is_err());
            }
        }

        #[test]
        fn bytes_with_a_right_checksum_still_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut sealed = MAGIC.to_vec();
            sealed.append(&mut bytes);
            codec::put_crc(&mut sealed, 0);
            if let Ok(block) = OpenBlock::decode(&sealed) {
                prop_assert_eq!(OpenBlock::decode(&block.encode()), Ok(block));
            }
        }
    }
}
