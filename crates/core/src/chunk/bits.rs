//! Bits in a byte string, most significant first.
//!
//! Owns: [`BitWriter`], [`BitReader`]. Invariant: reading past the end is refused, never invented.

use crate::codec::Damaged;

/// Appends bits to bytes.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits not written yet, at the top.
    held: u64,
    /// How many of them: fewer than 8 after every call.
    n: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, n: 0 }
    }

    /// Appends the low `width` bits of `value`, at most 57 at a time.
    #[inline]
    fn put_some(&mut self, value: u64, width: u32) {
        debug_assert!(width <= 56 && (width == 64 || value >> width == 0));
        if width == 0 {
            return;
        }
        self.held |= value << (64 - self.n - width);
        self.n += width;
        let whole = (self.n / 8) as usize;
        self.out.extend_from_slice(&self.held.to_be_bytes()[..whole]);
        self.held = if whole == 8 { 0 } else { self.held << (8 * whole) };
        self.n %= 8;
    }

    /// Appends the low `width` bits of `value`, 0 to 64.
    #[inline]
    pub(super) fn put(&mut self, value: u64, width: u32) {
        if width > 32 {
            self.put_some(value >> 32, width - 32);
            self.put_some(value & 0xffff_ffff, 32);
        } else {
            self.put_some(value, width);
        }
    }

    /// Appends `n` ones and a zero, `n` at most 47.
    #[inline]
    pub(super) fn put_unary(&mut self, n: u32) {
        self.put_some(((1u64 << n) - 1) << 1, n + 1);
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        if self.n > 0 {
            self.out.push((self.held >> 56) as u8);
        }
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next 57 bits or more at the top of a word, zeros after the end.
    #[inline]
    fn peek(&self) -> u64 {
        let byte = self.at / 8;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(eight) => eight.try_into().map_or(0, u64::from_be_bytes),
            None => {
                let mut padded = [0; 8];
                if let Some(rest) = self.bytes.get(byte..) {
                    padded[..rest.len()].copy_from_slice(rest);
                }
                u64::from_be_bytes(padded)
            }
        };
        word << (self.at % 8)
    }

    #[inline]
    fn skip(&mut self, bits: u32) -> Result<(), Damaged> {
        self.at += bits as usize;
        if self.at > 8 * self.bytes.len() { Err(Damaged("cut short")) } else { Ok(()) }
    }

    #[inline]
    fn get_some(&mut self, width: u32) -> Result<u64, Damaged> {
        if width == 0 {
            return Ok(0);
        }
        let value = self.peek() >> (64 - width);
        self.skip(width)?;
        Ok(value)
    }

    /// The next `width` bits, 0 to 64.
    #[inline]
    pub(super) fn get(&mut self, width: u32) -> Result<u64, Damaged> {
        if width > 32 {
            let high = self.get_some(width - 32)?;
            Ok(high << 32 | self.get_some(32)?)
        } else {
            self.get_some(width)
        }
    }

    /// How many ones come before the next zero, refused beyond `most` (at most 47).
    #[inline]
    pub(super) fn get_unary(&mut self, most: u32) -> Result<u32, Damaged> {
        let ones = self.peek().leading_ones();
        if ones > most {
            return Err(Damaged("a run of ones longer than any"));
        }
        self.skip(ones + 1)?;
        Ok(ones)
    }

    /// Steps over `bits` bits.
    #[inline]
    pub(super) fn pass(&mut self, bits: usize) -> Result<(), Damaged> {
        self.at = self.at.saturating_add(bits);
        self.skip(0)
    }

    /// The next ones before a zero, and the `k` bits after it, when they are within one word and the ones at most `most`.
    #[inline]
    pub(super) fn get_short(&mut self, most: u32, k: u32) -> Option<(u32, u64)> {
        let word = self.peek();
        let ones = word.leading_ones();
        if ones > most || ones + 1 + k > 57 {
            return None;
        }
        let low = if k == 0 { 0 } else { (word << (ones + 1)) >> (64 - k) };
        self.skip(ones + 1 + k).ok()?;
        Some((ones, low))
    }

    /// Whole bytes read so far, the last one's rest of zeros included.
    pub(super) fn finish(self) -> Result<usize, Damaged> {
        let rest = (8 - self.at % 8) % 8;
        let last = self.at / 8;
        if rest > 0 && self.bytes.get(last).is_none_or(|byte| byte & ((1u16 << rest) - 1) as u8 != 0) {
            return Err(Damaged("bits after the end"));
        }
        Ok(self.at.div_ceil(8))
    }
}
