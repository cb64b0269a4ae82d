//! A column of unsigned integers, by the cheapest of a few codings.
//!
//! Owns: [`put`] and [`read`]. Does not know: what the integers are.
//!
//! Codings, after one byte that names them: *constant* (a varint), *packed* (the least as a varint, then every difference to it in
//! the same number of bits: frame of reference), *Rice* (the least as a varint; of every difference the part above the low `k` bits in unary,
//! then the `k` bits; what would take more than 24 ones is written as 25 ones' worth of escape and 64 bits). Which one is cheapest is
//! counted, not tried.
//!
//! Source: R. F. Rice, *Some practical universal noiseless coding techniques*, JPL 1979.

use super::bits::{BitReader, BitWriter};
use crate::codec::{self, Damaged, Reader};

/// The mark of a constant column; 1..=64 = packed in so many bits; `RICE + k` = Rice with `k` low bits.
const CONSTANT: u8 = 0;
const RICE: u8 = 128;
/// Ones that begin an escaped number.
const ESCAPE: u32 = 24;

/// Which coding, and how many bits the column takes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    mark: u8,
    least: u64,
    bits: u64,
}

impl Plan {
    /// The cheapest plan for a column that is not empty.
    pub(super) fn of(column: &[u64]) -> Self {
        let (mut least, mut most) = (u64::MAX, 0);
        for &n in column {
            least = least.min(n);
            most = most.max(n);
        }
        let head = 8 * varint_len(least);
        let width = 64 - (most.wrapping_sub(least)).leading_zeros();
        if column.is_empty() || width == 0 {
            return Self { mark: CONSTANT, least: if column.is_empty() { 0 } else { least }, bits: 8 + head };
        }
        let packed = Self { mark: width as u8, least, bits: 8 + head + u64::from(width) * column.len() as u64 };
        let rice = Self::rice(column, least, width, head);
        if rice.bits < packed.bits { rice } else { packed }
    }

    /// The best of three values of `k` around the one that the mean asks for.
    fn rice(column: &[u64], least: u64, width: u32, head: u64) -> Self {
        let sum: u128 = column.iter().map(|&n| u128::from(n - least)).sum();
        let mean = (sum / column.len() as u128) as u64;
        let guess = (64 - mean.leading_zeros()).min(width);
        let low = guess.saturating_sub(2);
        let mut costs = [0u64; 3];
        for &n in column {
            let n = n - least;
            for (i, cost) in costs.iter_mut().enumerate() {
                let k = low + i as u32;
                let ones = n.checked_shr(k).unwrap_or(0);
                *cost += if ones >= u64::from(ESCAPE) { u64::from(ESCAPE) + 65 } else { ones + 1 + u64::from(k) };
            }
        }
        let best = (0..3).min_by_key(|&i| costs[i]).unwrap_or(0);
        Self { mark: RICE + (low + best as u32) as u8, least, bits: 8 + head + costs[best] }
    }

    /// How many bits the column takes.
    pub(super) const fn bits(&self) -> u64 {
        self.bits
    }
}

fn varint_len(n: u64) -> u64 {
    u64::from((64 - n.leading_zeros()).max(1).div_ceil(7))
}

/// Appends a column after its plan.
pub(super) fn put(out: &mut Vec<u8>, column: &[u64], plan: Plan) {
    out.push(plan.mark);
    codec::put_varint(out, plan.least);
    let mut bits = BitWriter::new(out);
    match plan.mark {
        CONSTANT => {}
        width if width < RICE => column.iter().for_each(|&n| bits.put(n - plan.least, u32::from(width))),
        rice => {
            let k = u32::from(rice - RICE);
            for &n in column {
                let n = n - plan.least;
                let ones = n.checked_shr(k).unwrap_or(0);
                if ones >= u64::from(ESCAPE) {
                    bits.put_unary(ESCAPE);
                    bits.put(n, 64);
                } else {
                    bits.put_unary(ones as u32);
                    bits.put(n & low_mask(k), k);
                }
            }
        }
    }
    bits.finish();
}

const fn low_mask(k: u32) -> u64 {
    if k >= 64 { u64::MAX } else { (1 << k) - 1 }
}

/// Reads `n` integers as [`put`] wrote them and hands them on one by one.
///
/// # Errors
/// When cut, or not what `put` writes.
pub(super) fn read(reader: &mut Reader<'_>, n: usize, mut each: impl FnMut(u64)) -> Result<(), Damaged> {
    let mark = reader.byte()?;
    let least = reader.varint()?;
    if mark == CONSTANT {
        (0..n).for_each(|_| each(least));
        return Ok(());
    }
    let mut bits = BitReader::new(reader.rest());
    if mark < RICE {
        let width = u32::from(mark);
        if width > 64 {
            return Err(Damaged("a width beyond 64 bits"));
        }
        for _ in 0..n {
            each(least.wrapping_add(bits.get(width)?));
        }
    } else {
        let k = u32::from(mark - RICE);
        if k > 64 {
            return Err(Damaged("a width beyond 64 bits"));
        }
        for _ in 0..n {
            let ones = bits.get_unary(ESCAPE)?;
            let n = if ones == ESCAPE { bits.get(64)? } else { u64::from(ones).checked_shl(k).unwrap_or(0) | bits.get(k)? };
            each(least.wrapping_add(n));
        }
    }
    let used = bits.finish()?;
    reader.take(used)?;
    Ok(())
}
