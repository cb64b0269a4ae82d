//! A column of finite values, lossless to the bit.
//!
//! Owns: [`put`] and [`read`]. Invariant: what comes back is finite and never −0.0.
//!
//! Where every value is a decimal of one scale (up to nine places), the scaled integers are written, divided by their greatest common divisor,
//! by the cheaper of *direct* (what each has above the least) and *steps* (the difference from value to value, zigzag). Elsewhere by the
//! cheapest of *dictionary* (the distinct bit patterns, sorted, and a number for each value), *XOR* with the value before, as in Gorilla, and
//! plain little-endian f64.
//!
//! Source: Pelkonen et al., *Gorilla: a fast, scalable, in-memory time series database*, VLDB 2015, §4.1.2.

use super::bits::{BitReader, BitWriter};
use super::ints::{self, Column, Plan};
use super::times::gcd;
use crate::codec::{self, Damaged, Reader};
use std::ops::Range;

const DIRECT: u8 = 0x00;
const STEPS: u8 = 0x10;
const DICTIONARY: u8 = 0x20;
const XOR: u8 = 0x21;
const RAW: u8 = 0x22;
/// Powers of ten that a scale may have.
const SCALES: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Scaled integers stay below 2^51, so that differences fit and products are exact enough to check.
const SCALED_LIMIT: f64 = 2_251_799_813_685_248.0;
/// No dictionary has more entries: its numbers would cost more than they save.
const DICTIONARY_MOST: usize = 1024;

/// Appends at least one value.
pub(super) fn put(out: &mut Vec<u8>, values: &[f64]) {
    let mut scaled = Vec::new();
    match scale(values, &mut scaled) {
        Some(places) => put_scaled(out, places, &scaled),
        None => put_bits(out, values),
    }
}

fn put_scaled(out: &mut Vec<u8>, places: u8, scaled: &[i64]) {
    let least = scaled.iter().copied().min().unwrap_or(0);
    let unit = scaled.iter().fold(0, |unit, &n| gcd((n - least) as u64, unit)).max(1);
    // One division for a column of small range would cost more than it saves; most columns have unit 1.
    let direct: Vec<u64> = if unit == 1 {
        scaled.iter().map(|&n| (n - least) as u64).collect()
    } else {
        scaled.iter().map(|&n| (n - least) as u64 / unit).collect()
    };
    let mut before = 0u64;
    let steps: Vec<u64> = direct
        .iter()
        .map(|&n| {
            let step = codec::zigzag(n.wrapping_sub(before) as i64);
            before = n;
            step
        })
        .collect();
    let (by_direct, by_steps) = (Plan::of(&direct), Plan::of(&steps));
    let (mark, column, plan) = if by_direct.bits() <= by_steps.bits() { (DIRECT, &direct, by_direct) } else { (STEPS, &steps, by_steps) };
    out.push(mark + places);
    codec::put_signed(out, least);
    codec::put_varint(out, unit);
    ints::put(out, column, plan);
}

/// Fills `scaled` with the integers of the smallest scale that every value has.
fn scale(values: &[f64], scaled: &mut Vec<i64>) -> Option<u8> {
    let mut places = 0;
    for &value in values {
        while to_scaled(value, SCALES[places]).is_none() {
            places += 1;
            if places == SCALES.len() {
                return None;
            }
        }
    }
    scaled.reserve(values.len());
    for &value in values {
        scaled.push(to_scaled(value, SCALES[places])?);
    }
    Some(places as u8)
}

#[inline]
fn to_scaled(value: f64, factor: f64) -> Option<i64> {
    let scaled = (value * factor).round_ties_even();
    (scaled.abs() < SCALED_LIMIT && (scaled as i64 as f64 / factor).to_bits() == value.to_bits()).then_some(scaled as i64)
}

fn put_bits(out: &mut Vec<u8>, values: &[f64]) {
    let start = out.len();
    put_xor(out, values);
    if let Some(dictionary) = dictionary(values) {
        let mut other = Vec::new();
        put_dictionary(&mut other, values, &dictionary);
        if other.len() < out.len() - start {
            out.truncate(start);
            out.extend_from_slice(&other);
        }
    }
    if out.len() - start > 8 * values.len() {
        out.truncate(start);
        out.push(RAW);
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

/// The distinct bit patterns, sorted, when they are few.
fn dictionary(values: &[f64]) -> Option<Vec<u64>> {
    let mut distinct: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() <= DICTIONARY_MOST && distinct.len() * 2 <= values.len()).then_some(distinct)
}

fn put_dictionary(out: &mut Vec<u8>, values: &[f64], dictionary: &[u64]) {
    out.push(DICTIONARY);
    codec::put_varint(out, dictionary.len() as u64);
    let mut before = 0;
    for &bits in dictionary {
        codec::put_varint(out, bits - before);
        before = bits;
    }
    let numbers: Vec<u64> = values.iter().map(|value| dictionary.binary_search(&value.to_bits()).unwrap_or(0) as u64).collect();
    ints::put(out, &numbers, Plan::of(&numbers));
}

/// A zero bit = as before; `10` = other bits within the last window; `11` = a new window: 6 bits of leading zeros, 6 of its width less one.
fn put_xor(out: &mut Vec<u8>, values: &[f64]) {
    out.push(XOR);
    let mut bits = BitWriter::new(out);
    let (mut before, mut lead, mut width) = (0u64, 0u32, 0u32);
    for value in values {
        let value = value.to_bits();
        let xor = value ^ before;
        before = value;
        if xor == 0 {
            bits.put(0, 1);
            continue;
        }
        let (zeros, tail) = (xor.leading_zeros(), xor.trailing_zeros());
        if width > 0 && zeros >= lead && tail >= 64 - lead - width {
            bits.put(0b10, 2);
        } else {
            (lead, width) = (zeros, 64 - zeros - tail);
            bits.put(0b11, 2);
            bits.put(u64::from(lead), 6);
            bits.put(u64::from(width - 1), 6);
        }
        bits.put(xor >> (64 - lead - width), width);
    }
    bits.finish();
}

/// How a column of `n` values is read: those of a run go onto the end of `values`; what follows the run is looked at only when it is to be
/// `whole`.
struct Part<'v> {
    n: usize,
    run: Range<usize>,
    whole: bool,
    values: &'v mut Vec<f64>,
}

impl Part<'_> {
    fn read_xor(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let mut bits = BitReader::new(reader.rest());
        let (mut before, mut lead, mut width) = (0u64, 0u32, 0u32);
        for at in 0..self.run.end {
            if bits.get(1)? == 1 {
                if bits.get(1)? == 1 {
                    lead = bits.get(6)? as u32;
                    width = bits.get(6)? as u32 + 1;
                }
                if width == 0 || lead + width > 64 {
                    return Err(Damaged("a window beyond 64 bits"));
                }
                before ^= bits.get(width)? << (64 - lead - width);
            }
            if at >= self.run.start {
                self.values.push(f64::from_bits(before));
            }
        }
        if self.whole {
            reader.take(bits.finish()?)?;
        }
        Ok(())
    }

    fn read_dictionary(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let len = reader.count(1)?;
        if len > DICTIONARY_MOST {
            return Err(Damaged("a dictionary larger than any"));
        }
        let mut dictionary = Vec::with_capacity(len);
        let mut before = 0u64;
        for _ in 0..len {
            before = before.checked_add(reader.varint()?).ok_or(Damaged("a number beyond 64 bits"))?;
            dictionary.push(f64::from_bits(before));
        }
        let mut inside = true;
        let mut column = Column::open(reader)?;
        column.skip(self.run.start)?;
        column.take(self.run.len(), |number| match usize::try_from(number).ok().and_then(|number| dictionary.get(number)) {
            Some(&value) => self.values.push(value),
            None => inside = false,
        })?;
        self.end(column, reader)?;
        if inside { Ok(()) } else { Err(Damaged("a number beyond the dictionary")) }
    }

    fn read_scaled(&mut self, reader: &mut Reader<'_>, steps: bool, places: u8) -> Result<(), Damaged> {
        let factor = *SCALES.get(usize::from(places)).ok_or(Damaged("an unknown coding of values"))?;
        let least = reader.signed()?;
        let unit = reader.varint()?;
        let value = |above: u64| least.wrapping_add(above.wrapping_mul(unit) as i64) as f64 / factor;
        let mut column = Column::open(reader)?;
        if steps {
            let mut above = 0u64;
            column.take(self.run.start, |step| above = above.wrapping_add(codec::unzigzag(step) as u64))?;
            column.take(self.run.len(), |step| {
                above = above.wrapping_add(codec::unzigzag(step) as u64);
                self.values.push(value(above));
            })?;
        } else {
            column.skip(self.run.start)?;
            column.take(self.run.len(), |above| self.values.push(value(above)))?;
        }
        self.end(column, reader)
    }

    fn read_raw(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let column = reader.take(self.n.checked_mul(8).ok_or(Damaged("cut short"))?)?;
        let run = column.as_chunks::<8>().0.get(self.run.clone()).ok_or(Damaged("cut short"))?;
        self.values.extend(run.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        Ok(())
    }

    fn end<'a>(&self, column: Column<'a>, reader: &mut Reader<'a>) -> Result<(), Damaged> {
        if self.whole { column.finish(reader) } else { Ok(()) }
    }
}

/// Reads `n` values onto the end of `values`.
///
/// # Errors
/// When cut, or when a value is none that a reading has.
pub(super) fn read(reader: &mut Reader<'_>, n: usize, values: &mut Vec<f64>) -> Result<(), Damaged> {
    read_part(reader, Part { n, run: 0..n, whole: true, values })
}

/// Reads those of `n` values that lie in `run` onto the end of `values`; `reader` is worthless afterwards.
///
/// # Errors
/// As [`read`], as far as it has to look.
pub(super) fn read_run(reader: &mut Reader<'_>, n: usize, run: Range<usize>, values: &mut Vec<f64>) -> Result<(), Damaged> {
    read_part(reader, Part { n, run, whole: false, values })
}

fn read_part(reader: &mut Reader<'_>, mut part: Part<'_>) -> Result<(), Damaged> {
    let from = part.values.len();
    match reader.byte()? {
        RAW => part.read_raw(reader)?,
        XOR => part.read_xor(reader)?,
        DICTIONARY => part.read_dictionary(reader)?,
        mark if mark < DICTIONARY => part.read_scaled(reader, mark & 0xf0 == STEPS, mark & 0x0f)?,
        _ => return Err(Damaged("an unknown coding of values")),
    }
    let negative_zero = (-0.0f64).to_bits();
    if part.values[from..].iter().all(|value| value.is_finite() && value.to_bits() != negative_zero) {
        Ok(())
    } else {
        Err(Damaged("a value that no reading has"))
    }
}
