//! The bytes of a summary: canonical, versioned, checked.
//!
//! Version 1: magic, version, count as a varint; unless the count is 0 the first time (signed) and by how much the last is
//! later; then
//!
//! - up to [`MAX_EXACT`] readings: the sorted values as a column, and at which of them the first and the last value stand
//!   (all else follows from that);
//! - above: min, max, first and last value (8 bytes each); the sum and the sum of squares, each as a varint of twice its
//!   lowest limb's place plus one if negative, the number of its limbs, and the limbs (4 bytes each); the zeros; the
//!   negative and the positive bins, each as their number and (index less the one before, count) of each;
//!
//! and the CRC-32 of all before it. Integers of fixed width are little-endian.
//!
//! A decoder believes nothing, CRC or not: what [`Summary::decode`] returns keeps every invariant that answers rely on, and
//! encodes to the bytes it came from.

use super::Summary;
use super::exact::{Accumulator, Parts};
use super::integer::{Integer, Natural};
use super::percentiles::{MAX_EXACT, Percentiles};
use super::sketch::{Bin, Bins, Sketch};
use crate::codec::{Damaged, Reader, check_crc, put_crc, put_signed, put_values, put_varint, read_values};

const MAGIC: &[u8] = b"HWs";
const VERSION: u8 = 1;
/// Above the limbs of any sum of squares of 2^64 values: (2 · 2,098 + 64) / 32, rounded up.
const MOST_LIMBS: u64 = 134;

impl Summary {
    /// Appends the encoding: equal sets of readings have equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        put_varint(out, self.count);
        if !self.is_empty() {
            put_signed(out, self.first.0);
            put_varint(out, self.last.0.wrapping_sub(self.first.0) as u64);
            match &self.percentiles {
                Percentiles::Exact(values) => self.put_exact(values, out),
                Percentiles::Sketch(sketch) => self.put_sketched(sketch, out),
            }
        }
        put_crc(out, start);
    }

    /// Reads what [`Summary::encode`] wrote; `bytes` must hold nothing else.
    ///
    /// # Errors
    /// When the bytes were cut, changed, extended, are of another format or version, or claim what no set of readings has.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new(check_crc(bytes)?);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Damaged("not a summary"));
        }
        if reader.byte()? != VERSION {
            return Err(Damaged("a summary of an unknown version"));
        }
        let summary = match reader.varint()? {
            0 => Self::new(),
            count => read_readings(&mut reader, count)?,
        };
        reader.finish()?;
        let mut again = Vec::with_capacity(bytes.len());
        summary.encode(&mut again);
        if again != bytes {
            return Err(Damaged("a summary in another spelling than the canonical"));
        }
        Ok(summary)
    }

    fn put_exact(&self, values: &[f64], out: &mut Vec<u8>) {
        let place = |value: f64| values.partition_point(|&held| held < value) as u64;
        put_values(out, values);
        put_varint(out, place(self.first.1));
        put_varint(out, place(self.last.1));
    }

    fn put_sketched(&self, sketch: &Sketch, out: &mut Vec<u8>) {
        for value in [self.min, self.max, self.first.1, self.last.1] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        put_integer(out, &self.sum.value());
        put_integer(out, &self.squares.value());
        put_varint(out, sketch.zeros);
        put_bins(out, &sketch.negative);
        put_bins(out, &sketch.positive);
    }

    /// What must hold of the ends of any set of readings, whatever else is in it.
    fn has_possible_ends(&self) -> bool {
        let ((first_time, first), (last_time, last)) = (self.first, self.last);
        let within = |value: f64| self.min <= value && value <= self.max;
        let by_time = if first_time == last_time {
            // All readings are of one time, so the ties decide.
            first == self.min && last == self.max
        } else {
            // Two different readings.
            self.count > 1 && (first != last || self.count_near(first) > 1)
        };
        within(first) && within(last) && by_time
    }

    /// What must hold of sums, given the count and the extremes: between n · min and n · max, and squares by Cauchy-Schwarz.
    fn has_possible_sums(&self) -> bool {
        let total = |value: f64| {
            let (mut sum, mut squares) = (Accumulator::new(), Accumulator::new());
            sum.add(Parts::of(value));
            squares.add_square(Parts::of(value));
            (sum.value().times(self.count), squares.value().times(self.count))
        };
        let ((least, least_square), (greatest, greatest_square)) = (total(self.min), total(self.max));
        let (sum, squares) = (self.sum.value(), self.squares.value());
        let Some(spread) = self.spread() else {
            return false;
        };
        (least..=greatest).contains(&sum)
            && !squares.negative
            && squares <= least_square.max(greatest_square)
            && spread.limbs().is_empty() == (self.min == self.max)
    }

    /// How many values equal `value`, or lie in its bin.
    fn count_near(&self, value: f64) -> u64 {
        match &self.percentiles {
            Percentiles::Exact(values) => values.iter().filter(|&&held| held == value).count() as u64,
            Percentiles::Sketch(sketch) => sketch.count_near(value),
        }
    }
}

fn read_readings(reader: &mut Reader<'_>, count: u64) -> Result<Summary, Damaged> {
    let first_time = reader.signed()?;
    let last_time = first_time.checked_add_unsigned(reader.varint()?).ok_or(Damaged("a last time beyond 64 bits"))?;
    let summary = match usize::try_from(count) {
        Ok(n @ ..=MAX_EXACT) => read_exact(reader, n, first_time, last_time)?,
        _ => read_sketched(reader, count, first_time, last_time)?,
    };
    if !summary.has_possible_ends() {
        return Err(Damaged("a first or last reading that cannot be"));
    }
    Ok(summary)
}

fn read_exact(reader: &mut Reader<'_>, n: usize, first_time: i64, last_time: i64) -> Result<Summary, Damaged> {
    let mut values = Vec::new();
    read_values(reader, n, &mut values)?;
    if !values.is_sorted() {
        return Err(Damaged("values out of order"));
    }
    let mut at = || {
        let at = usize::try_from(reader.varint()?).ok();
        at.and_then(|at| values.get(at)).copied().ok_or(Damaged("a place beyond the values"))
    };
    let (first, last) = (at()?, at()?);
    let mut summary = Summary::new();
    summary.add_run(&vec![first_time; n], &values);
    (summary.first, summary.last) = ((first_time, first), (last_time, last));
    Ok(summary)
}

fn read_sketched(reader: &mut Reader<'_>, count: u64, first_time: i64, last_time: i64) -> Result<Summary, Damaged> {
    let (min, max) = (read_value(reader)?, read_value(reader)?);
    let (first, last) = ((first_time, read_value(reader)?), (last_time, read_value(reader)?));
    let (sum, squares) = (read_sum(reader)?, read_sum(reader)?);
    let zeros = reader.varint()?;
    let (negative, positive) = (read_bins(reader)?, read_bins(reader)?);
    let sketch = Sketch { negative, zeros, positive };
    if sketch.checked_total() != Some(count) {
        return Err(Damaged("bins that do not add up to the count"));
    }
    let are_at_the_ends = sketch.ends() == Some((Sketch::representative_of(min), Sketch::representative_of(max)));
    let has_all = [min, max, first.1, last.1].iter().all(|&value| sketch.count_near(value) > 0);
    if !are_at_the_ends || !has_all {
        return Err(Damaged("values outside their bins"));
    }
    let percentiles = Percentiles::Sketch(Box::new(sketch));
    let summary = Summary { count, sum, squares, min, max, first, last, percentiles };
    if !summary.has_possible_sums() {
        return Err(Damaged("sums that no such readings have"));
    }
    Ok(summary)
}

fn read_value(reader: &mut Reader<'_>) -> Result<f64, Damaged> {
    let value = f64::from_le_bytes(reader.array()?);
    let is_negative_zero = value == 0.0 && value.is_sign_negative();
    if !value.is_finite() || is_negative_zero {
        return Err(Damaged("a value that no reading has"));
    }
    Ok(value)
}

fn put_integer(out: &mut Vec<u8>, integer: &Integer) {
    let limbs = integer.magnitude.limbs();
    put_varint(out, 2 * integer.magnitude.base() as u64 + u64::from(integer.negative));
    put_varint(out, limbs.len() as u64);
    for limb in limbs {
        out.extend_from_slice(&limb.to_le_bytes());
    }
}

fn read_sum(reader: &mut Reader<'_>) -> Result<Accumulator, Damaged> {
    let head = reader.varint()?;
    let n_limbs = reader.count(size_of::<u32>())?;
    let (base, negative) = (head / 2, head % 2 == 1);
    if base + n_limbs as u64 > MOST_LIMBS {
        return Err(Damaged("a sum beyond its limits"));
    }
    let limbs = reader.take(n_limbs * size_of::<u32>())?.as_chunks::<4>().0;
    let magnitude = Natural::new(base as i64, limbs.iter().map(|&limb| u32::from_le_bytes(limb)).collect());
    Accumulator::of(&Integer::new(negative, magnitude)).ok_or(Damaged("a sum beyond its limits"))
}

fn put_bins(out: &mut Vec<u8>, bins: &Bins) {
    put_varint(out, bins.as_slice().len() as u64);
    let mut before = 0;
    for bin in bins.as_slice() {
        put_signed(out, i64::from(bin.index) - before);
        put_varint(out, bin.count);
        before = i64::from(bin.index);
    }
}

fn read_bins(reader: &mut Reader<'_>) -> Result<Bins, Damaged> {
    let n_bins = reader.count(2)?;
    let mut bins = Bins::with_capacity(n_bins);
    let mut index = 0i64;
    for _ in 0..n_bins {
        index = index.checked_add(reader.signed()?).ok_or(Damaged("a bin that does not exist"))?;
        let count = reader.varint()?;
        let index = i32::try_from(index).map_err(|_| Damaged("a bin that does not exist"))?;
        if !bins.push(Bin { index, count }) {
            return Err(Damaged("an empty bin, or bins out of order"));
        }
    }
    Ok(bins)
}
