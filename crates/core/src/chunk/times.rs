//! A column of strictly rising times.
//!
//! Owns: [`put`] and [`read`]. Invariant: what comes back rises strictly.
//!
//! The first time and the greatest common divisor of all differences (the clock's unit: often 1,000 or 1,000,000 µs) stand in front. Then the
//! cheaper of two columns: the differences from time to time (gaps cost one number), or how far each time lies from a straight line from the
//! first to the last (jitter around a steady interval costs itself and no more).

use super::ints::{self, Plan};
use crate::codec::{self, Damaged, Reader};

const DELTAS: u8 = 0;
const LINE: u8 = 1;

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

/// Reads `n` times onto the end of `times`.
///
/// # Errors
/// When cut, or not strictly rising.
pub(super) fn read(reader: &mut Reader<'_>, n: usize, times: &mut Vec<i64>) -> Result<(), Damaged> {
    let first = reader.signed()?;
    times.push(first);
    if n <= 1 {
        return Ok(());
    }
    let unit = reader.varint()?;
    let mode = reader.byte()?;
    let (mut time, mut rising) = (first, true);
    let mut push = |next: i64| {
        rising &= next > time;
        time = next;
        times.push(next);
    };
    match mode {
        DELTAS => {
            let mut at = first;
            ints::read(reader, n - 1, |delta| {
                at = at.wrapping_add(delta.wrapping_mul(unit) as i64);
                push(at);
            })?;
        }
        LINE => {
            let step = reader.varint()?;
            let mut line = 0u64;
            ints::read(reader, n - 1, |off| {
                line = line.wrapping_add(step);
                let units = line.wrapping_add(codec::unzigzag(off) as u64);
                push(first.wrapping_add(units.wrapping_mul(unit) as i64));
            })?;
        }
        _ => return Err(Damaged("an unknown coding of times")),
    }
    if rising { Ok(()) } else { Err(Damaged("times that do not rise")) }
}

/// The greatest common divisor; `gcd(a, 0)` is `a`.
pub(super) const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
