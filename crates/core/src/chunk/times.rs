//! A column of strictly rising times.
//!
//! Owns: [`put`] and [`read`]. Invariant: what comes back rises strictly.
//!
//! The first time and the greatest common divisor of all differences (the clock's unit: often 1,000 or 1,000,000 µs) stand in front. Then the
//! cheaper of two columns: the differences from time to time (gaps cost one number), or how far each time lies from a straight line from the
//! first to the last (jitter around a steady interval costs itself and no more).

use super::ints::{self, Column, Plan};
use crate::codec::{self, Damaged, Reader};

const DELTAS: u8 = 0;
const LINE: u8 = 1;
/// So many times are read before it is looked whether they are late enough.
const BATCH: usize = 64;

/// Appends at least one time.
pub(super) fn put(out: &mut Vec<u8>, times: &[i64]) {
    let Some(&first) = times.first() else { return };
    codec::put_signed(out, first);
    if times.len() == 1 {
        return;
    }
    let unit = times.windows(2).fold(0, |unit, pair| gcd(pair[1].wrapping_sub(pair[0]) as u64, unit));
    codec::put_varint(out, unit);
    let deltas: Vec<u64> = times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as u64 / unit).collect();
    let span = times[times.len() - 1].wrapping_sub(first) as u64 / unit;
    let step = span / deltas.len() as u64;
    let line: Vec<u64> = residuals(&deltas, step);
    let (by_deltas, by_line) = (Plan::of(&deltas), Plan::of(&line));
    if by_line.bits() + 40 < by_deltas.bits() {
        out.push(LINE);
        codec::put_varint(out, step);
        ints::put(out, &line, by_line);
    } else {
        out.push(DELTAS);
        ints::put(out, &deltas, by_deltas);
    }
}

/// How far each time but the first lies from `first + i * step`, zigzag.
fn residuals(deltas: &[u64], step: u64) -> Vec<u64> {
    let mut off = 0i64;
    deltas
        .iter()
        .map(|&delta| {
            off = off.wrapping_add(delta.wrapping_sub(step) as i64);
            codec::zigzag(off)
        })
        .collect()
}

/// Reads `n` times onto the end of `times`; of those from `to` on only a few, the rest is stepped over.
///
/// # Errors
/// When cut, or not strictly rising.
pub(super) fn read(reader: &mut Reader<'_>, n: usize, to: i64, times: &mut Vec<i64>) -> Result<(), Damaged> {
    let first = reader.signed()?;
    times.push(first);
    if n <= 1 {
        return Ok(());
    }
    let unit = reader.varint()?;
    let mode = reader.byte()?;
    let step = match mode {
        DELTAS => 0,
        LINE => reader.varint()?,
        _ => return Err(Damaged("an unknown coding of times")),
    };
    let mut column = Column::open(reader)?;
    let (mut time, mut at, mut rising, mut left) = (first, 0u64, true, n - 1);
    let mut push = |units: u64| {
        let next = first.wrapping_add(units.wrapping_mul(unit) as i64);
        rising &= next > time;
        time = next;
        times.push(next);
        next
    };
    let mut latest = first;
    while left > 0 && latest < to {
        let n = left.min(BATCH);
        left -= n;
        if mode == DELTAS {
            column.take(n, |delta| {
                at = at.wrapping_add(delta);
                latest = push(at);
            })?;
        } else {
            column.take(n, |off| {
                at = at.wrapping_add(step);
                latest = push(at.wrapping_add(codec::unzigzag(off) as u64));
            })?;
        }
    }
    column.skip(left)?;
    column.finish(reader)?;
    if rising { Ok(()) } else { Err(Damaged("times that do not rise")) }
}

/// Steps over `n` times and returns the first.
///
/// # Errors
/// When cut.
pub(super) fn skip(reader: &mut Reader<'_>, n: usize) -> Result<i64, Damaged> {
    let mut first = Vec::new();
    read(reader, n, i64::MIN, &mut first)?;
    first.first().copied().ok_or(Damaged("cut short"))
}

/// The greatest common divisor; `gcd(a, 0)` is `a`.
pub(super) const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
