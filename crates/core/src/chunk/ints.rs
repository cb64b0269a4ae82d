//! A column of unsigned integers, by the cheapest of a few codings.
//!
//! Owns: [`put`] and [`Column`]. Does not know: what the integers are.
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

/// A column that is being read from its start.
#[derive(Debug)]
pub(super) struct Column<'a> {
    mark: u8,
    least: u64,
    bits: BitReader<'a>,
}

impl<'a> Column<'a> {
    /// The column that begins here.
    ///
    /// # Errors
    /// When cut, or not what [`put`] writes.
    pub(super) fn open(reader: &mut Reader<'a>) -> Result<Self, Damaged> {
        let (mark, least) = (reader.byte()?, reader.varint()?);
        if mark > RICE + 64 || (mark > 64 && mark < RICE) {
            return Err(Damaged("a width beyond 64 bits"));
        }
        Ok(Self { mark, least, bits: BitReader::new(reader.rest()) })
    }

    /// Hands on the next `n` integers, one by one.
    ///
    /// # Errors
    /// When cut, or not what [`put`] writes.
    #[inline]
    pub(super) fn take(&mut self, n: usize, mut each: impl FnMut(u64)) -> Result<(), Damaged> {
        match self.mark {
            CONSTANT => (0..n).for_each(|_| each(self.least)),
            width if width < RICE => {
                for _ in 0..n {
                    each(self.least.wrapping_add(self.bits.get(u32::from(width))?));
                }
            }
            rice => {
                let k = u32::from(rice - RICE);
                for _ in 0..n {
                    each(self.least.wrapping_add(self.rice(k)?));
                }
            }
        }
        Ok(())
    }

    /// Steps over the next `n` integers.
    ///
    /// # Errors
    /// As [`Column::take`].
    pub(super) fn skip(&mut self, n: usize) -> Result<(), Damaged> {
        match self.mark {
            CONSTANT => Ok(()),
            width if width < RICE => self.bits.pass(usize::from(width).saturating_mul(n)),
            _ => self.take(n, |_| ()),
        }
    }

    #[inline]
    fn rice(&mut self, k: u32) -> Result<u64, Damaged> {
        match self.bits.get_short(ESCAPE - 1, k) {
            Some((ones, low)) => Ok(u64::from(ones).checked_shl(k).unwrap_or(0) | low),
            None => self.long_rice(k),
        }
    }

    #[cold]
    fn long_rice(&mut self, k: u32) -> Result<u64, Damaged> {
        let ones = self.bits.get_unary(ESCAPE)?;
        if ones == ESCAPE {
            return self.bits.get(64);
        }
        Ok(u64::from(ones).checked_shl(k).unwrap_or(0) | self.bits.get(k)?)
    }

    /// Moves `reader`, which is where [`Column::open`] left it, to behind the last integer that was read.
    ///
    /// # Errors
    /// When the last byte is not what [`put`] writes.
    pub(super) fn finish(self, reader: &mut Reader<'a>) -> Result<(), Damaged> {
        if self.mark == CONSTANT {
            return Ok(());
        }
        let used = self.bits.finish()?;
        reader.take(used)?;
        Ok(())
    }
}
