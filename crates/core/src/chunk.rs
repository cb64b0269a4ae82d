//! Chunks: sealed readings of one series, by time, without repeats, in few bytes.
//!
//! Owns: [`Chunk`] and its encoding. Does not know: series, keys, where chunks are kept.
//! Invariants: 1 to [`MAX_READINGS`] readings, times rise strictly, values are finite and never −0.0.
//!
//! Encoding, version 1: `"HC"`, version, readings (varint), the column of times, the column of values, CRC-32 (IEEE, little-endian) of all
//! before it. The columns are described where they are written: `times`, `values`, `ints`.

mod bits;
mod ints;
mod times;
mod values;

use crate::codec::{self, Damaged, Reader};
use crate::time::TimeRange;

/// The most readings of a chunk.
pub const MAX_READINGS: usize = 4_096;
const MAGIC: [u8; 3] = [b'H', b'C', 1];

/// Sealed readings of one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunk {
    /// Microseconds since the epoch, strictly rising.
    pub times: Vec<i64>,
    /// One for each time.
    pub values: Vec<f64>,
}

/// Appends the bytes of a chunk of these readings (see [`Chunk`] for what they must be).
pub fn encode(times: &[i64], values: &[f64], out: &mut Vec<u8>) {
    debug_assert!(!times.is_empty() && times.len() <= MAX_READINGS && times.len() == values.len() && times.is_sorted_by(|a, b| a < b));
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    codec::put_varint(out, times.len() as u64);
    times::put(out, times);
    values::put(out, values);
    codec::put_crc(out, start);
}

impl Chunk {
    /// A chunk from its bytes.
    ///
    /// # Errors
    /// When a single bit is not as [`encode`] wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut chunk = Self::default();
        chunk.decode_more(bytes)?;
        Ok(chunk)
    }

    /// Appends the readings of the chunk in `bytes`; after an error what was appended is worthless.
    ///
    /// # Errors
    /// As [`Chunk::decode`].
    pub fn decode_more(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let (n, mut reader) = open(bytes)?;
        self.times.reserve(n);
        self.values.reserve(n);
        let n_before = self.times.len();
        times::read(&mut reader, n, i64::MAX, &mut self.times)?;
        if self.times.len() - n_before != n {
            return Err(Damaged("times beyond the last that there is"));
        }
        values::read(&mut reader, n, &mut self.values)?;
        reader.finish()
    }

    /// Holds, in the place of what it held, the readings of the chunk in `bytes` within `range`, and returns how many there are in all and when
    /// the first is. What lies after `range` is vouched for by the checksum alone. After an error what it holds is worthless.
    ///
    /// # Errors
    /// As [`Chunk::decode`], as far as it has to look.
    pub fn decode_within(&mut self, bytes: &[u8], range: TimeRange) -> Result<(usize, i64), Damaged> {
        self.times.clear();
        self.values.clear();
        let (n, mut reader) = open(bytes)?;
        self.times.reserve(n);
        times::read(&mut reader, n, range.to.0, &mut self.times)?;
        let first = self.times.first().copied().ok_or(Damaged("cut short"))?;
        let to = self.times.partition_point(|&time| time < range.to.0);
        let from = self.times[..to].partition_point(|&time| time < range.from.0);
        if from < to {
            self.values.reserve(to - from);
            values::read_run(&mut reader, n, from..to, &mut self.values)?;
        }
        self.times.truncate(to);
        self.times.drain(..from);
        Ok((n, first))
    }
}

/// How many readings the chunk in `bytes` has, when the first is, and the value of the last.
///
/// # Errors
/// As [`Chunk::decode`], as far as it has to look: the rest is vouched for by the checksum alone.
pub fn last_value(bytes: &[u8]) -> Result<(usize, i64, f64), Damaged> {
    let (n, mut reader) = open(bytes)?;
    let first = times::skip(&mut reader, n)?;
    let mut value = Vec::with_capacity(1);
    values::read_run(&mut reader, n, n - 1..n, &mut value)?;
    value.first().map(|&value| (n, first, value)).ok_or(Damaged("cut short"))
}

/// How many readings there are, and what follows that number.
fn open(bytes: &[u8]) -> Result<(usize, Reader<'_>), Damaged> {
    let mut reader = Reader::new(codec::check_crc(bytes)?);
    if reader.array::<3>()? != MAGIC {
        return Err(Damaged("not a chunk of version 1"));
    }
    let n = usize::try_from(reader.varint()?).ok().filter(|n| (1..=MAX_READINGS).contains(n));
    Ok((n.ok_or(Damaged("a number of readings that no chunk has"))?, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn any_times() -> impl Strategy<Value = Vec<i64>> {
        let steady =
            (any::<i32>(), 1i64..100_000, prop::collection::vec(0i64..50, 1..300), prop_oneof![Just(1i64), Just(1000), Just(1_000_000)])
                .prop_map(|(first, step, jitter, unit)| {
                    let mut times: Vec<i64> =
                        jitter.iter().enumerate().map(|(i, j)| (i64::from(first) + i as i64 * (step + 50) + j) * unit).collect();
                    times.dedup();
                    times
                });
        let wild = prop::collection::btree_set(any::<i64>(), 1..50).prop_map(|set| set.into_iter().collect());
        prop_oneof![steady, wild]
    }

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-99_999i64..99_999, 0i32..10).prop_map(|(n, places)| n as f64 / 10f64.powi(places)),
            any::<f32>().prop_map(f64::from),
            any::<f64>(),
            Just(21.5),
            Just(f64::MAX),
            Just(5e-324),
            Just(0.1 + 0.2),
        ]
        .prop_filter("finite", |v| v.is_finite())
        .prop_map(|v| v + 0.0)
    }

    fn readings() -> impl Strategy<Value = (Vec<i64>, Vec<f64>)> {
        let one_kind = |times: Vec<i64>| {
            let n = times.len();
            let few = (prop::collection::vec(any_value(), 1..5), prop::collection::vec(any::<prop::sample::Index>(), n))
                .prop_map(|(some, at)| at.iter().map(|i| some[i.index(some.len())]).collect::<Vec<_>>());
            let decimal = (prop::collection::vec(-5000i64..5000, n), 0i32..10)
                .prop_map(|(ints, places)| ints.iter().map(|&i| i as f64 / 10f64.powi(places)).collect());
            let mixed = prop::collection::vec(any_value(), n);
            (Just(times), prop_oneof![few, decimal, mixed])
        };
        any_times().prop_flat_map(one_kind)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn chunks_come_back_bit_by_bit((times, values) in readings()) {
            let mut bytes = Vec::new();
            encode(&times, &values, &mut bytes);
            let chunk = Chunk::decode(&bytes).unwrap();
            prop_assert_eq!(&chunk.times, &times);
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&chunk.values), bits(&values));
        }

        #[test]
        fn a_part_is_that_of_the_whole((times, values) in readings(), ends in any::<[(prop::sample::Index, bool); 2]>()) {
            let mut bytes = Vec::new();
            encode(&times, &values, &mut bytes);
            let mut ends = ends.map(|(at, after)| times[at.index(times.len())].saturating_add(i64::from(after)));
            ends.sort_unstable();
            let mut part = Chunk { times: vec![7], values: vec![] };
            let whole = part.decode_within(&bytes, TimeRange::new(Timestamp(ends[0]), Timestamp(ends[1]))).unwrap();
            prop_assert_eq!(whole, (times.len(), times[0]));
            let inside: Vec<usize> = (0..times.len()).filter(|&i| (ends[0]..ends[1]).contains(&times[i])).collect();
            prop_assert_eq!(part.times, inside.iter().map(|&i| times[i]).collect::<Vec<_>>());
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&part.values), bits(&inside.iter().map(|&i| values[i]).collect::<Vec<_>>()));
            let (n, first, last) = last_value(&bytes).unwrap();
            prop_assert_eq!((n, first, last.to_bits()), (times.len(), times[0], values[values.len() - 1].to_bits()));
        }

        #[test]
        fn every_flipped_bit_is_refused((times, values) in readings(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode(&times, &values, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Chunk::decode(&bytes).is_err());
        }

        #[test]
        fn changed_bytes_under_a_right_checksum_never_panic((times, values) in readings(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut bytes = Vec::new();
            encode(&times, &values, &mut bytes);
            bytes.truncate(bytes.len() - 4);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            codec::put_crc(&mut bytes, 0);
            last_value(&bytes).ok();
            Chunk::default().decode_within(&bytes, TimeRange::new(Timestamp(times[0]), Timestamp(times[times.len() / 2]))).ok();
            if let Ok(chunk) = Chunk::decode(&bytes) {
                prop_assert!(chunk.times.is_sorted_by(|a, b| a < b) && chunk.values.iter().all(|v| v.is_finite()) && chunk.times.len() <= MAX_READINGS);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut sealed = MAGIC.to_vec();
            sealed.append(&mut bytes);
            codec::put_crc(&mut sealed, 0);
            Chunk::decode(&sealed).ok();
        }
    }
}
