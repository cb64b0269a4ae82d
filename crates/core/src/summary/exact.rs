//! Sums that lose nothing: every f64 and every square of one is an integer multiple of a fixed power of two.
//!
//! Invariant: a limb may hold more than its 32 bits (carries are lazy, so that adding is three or five additions), but
//! `pending` bounds how much, and carries are settled long before 64 bits could overflow. [`Accumulator::value`] is
//! canonical whatever the limbs look like.

use super::integer::{Integer, Natural};

const LIMB_BITS: u32 = 32;
/// Carries are settled after this many additions. One adds less than 2^33 to a limb, so that limbs stay below 2^62, also in
/// the sum of two accumulators.
pub(super) const MOST_PENDING: u32 = 1 << 28;

/// A finite f64 taken apart: ± mantissa · 2^(position − 1074).
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    mantissa: u64,
    position: u32,
    /// 0, or −1 for a negative value.
    sign: i64,
}

/// Σ limbs\[i\] · 2^(32 · (base + i)) in units of the sum at hand. Only the limbs that were ever touched, and those between
/// them, are kept.
#[derive(Debug, Clone)]
pub(super) struct Accumulator {
    limbs: Vec<i64>,
    base: u32,
    /// No limb's magnitude exceeds (`pending` + 1) · 2^33.
    pub(super) pending: u32,
}

impl Parts {
    #[inline]
    pub(super) fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let is_normal = u32::from(exponent != 0);
        Self { mantissa: (bits & ((1 << 52) - 1)) | (u64::from(is_normal) << 52), position: exponent - is_normal, sign: bits as i64 >> 63 }
    }
}

impl Accumulator {
    pub(super) const fn new() -> Self {
        Self { limbs: Vec::new(), base: 0, pending: 0 }
    }

    /// Adds a value, in units of 2^-1074.
    #[inline]
    pub(super) fn add(&mut self, Parts { mantissa, position, sign }: Parts) {
        if mantissa == 0 {
            return; // zero has a position, and would stretch the limbs down to it
        }
        let shifted = u128::from(mantissa) << (position % LIMB_BITS);
        let limbs = [shifted as u32, (shifted >> 32) as u32, (shifted >> 64) as u32];
        self.add_limbs(position / LIMB_BITS, limbs.map(|limb| (i64::from(limb) ^ sign) - sign));
    }

    /// Adds the square of a value, in units of 2^-2148.
    #[inline]
    pub(super) fn add_square(&mut self, Parts { mantissa, position, .. }: Parts) {
        if mantissa == 0 {
            return;
        }
        let square = u128::from(mantissa) * u128::from(mantissa);
        let shift = 2 * position % LIMB_BITS;
        let low = u128::from(square as u64) << shift;
        let high = (square >> 64) << shift;
        let limb = |part: u128, at: u32| i64::from((part >> (LIMB_BITS * at)) as u32);
        let limbs = [limb(low, 0), limb(low, 1), limb(low, 2) + limb(high, 0), limb(high, 1), limb(high, 2)];
        self.add_limbs(2 * position / LIMB_BITS, limbs);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.limbs.is_empty() {
            return;
        }
        self.cover(other.base, other.limbs.len());
        let at = (other.base - self.base) as usize;
        for (ours, theirs) in self.limbs[at..].iter_mut().zip(&other.limbs) {
            *ours += theirs;
        }
        self.pending += other.pending + 1;
        if self.pending > MOST_PENDING {
            self.settle();
        }
    }

    /// The exact total.
    pub(super) fn value(&self) -> Integer {
        let digits = |sign: i64| {
            let mut carry = 0i64;
            let settled = self.limbs.iter().map(|limb| {
                carry += sign * limb;
                let digit = carry as u32;
                carry >>= LIMB_BITS;
                digit
            });
            let mut digits: Vec<u32> = settled.collect();
            digits.push(carry as u32);
            (carry >= 0).then_some(digits)
        };
        let natural = |digits| Natural::new(i64::from(self.base), digits);
        match digits(1) {
            Some(digits) => Integer::new(false, natural(digits)),
            None => Integer::new(true, natural(digits(-1).unwrap_or_default())),
        }
    }

    /// The accumulator that holds a total; `None` when its limbs lie where no sum has any.
    pub(super) fn of(total: &Integer) -> Option<Self> {
        let sign = if total.negative { -1 } else { 1 };
        let limbs = total.magnitude.limbs().iter().map(|&limb| sign * i64::from(limb)).collect();
        let base = u32::try_from(total.magnitude.base()).ok()?;
        Some(Self { limbs, base, pending: 0 })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.limbs.capacity() * size_of::<i64>()
    }

    #[inline]
    fn add_limbs<const N: usize>(&mut self, index: u32, limbs: [i64; N]) {
        if self.pending >= MOST_PENDING {
            self.settle();
        }
        self.pending += 1;
        if index < self.base || (index - self.base) as usize + N > self.limbs.len() {
            self.cover(index, N);
        }
        let at = (index - self.base) as usize;
        for (ours, limb) in self.limbs[at..at + N].iter_mut().zip(limbs) {
            *ours += limb;
        }
    }

    /// Makes room for `n` limbs from `index` on.
    #[cold]
    fn cover(&mut self, index: u32, n: usize) {
        if self.limbs.is_empty() {
            self.base = index;
        }
        let n_below = self.base.saturating_sub(index) as usize;
        self.base = self.base.min(index);
        let end = ((index - self.base) as usize + n).max(n_below + self.limbs.len());
        self.limbs.reserve_exact(end - self.limbs.len());
        self.limbs.splice(..0, std::iter::repeat_n(0, n_below));
        self.limbs.resize(end, 0);
    }

    /// Moves what exceeds 32 bits up; the last limb keeps the sign.
    #[cold]
    fn settle(&mut self) {
        self.pending = 0;
        let Some(last) = self.limbs.len().checked_sub(1) else {
            return;
        };
        let mut carry = 0i64;
        for limb in &mut self.limbs[..last] {
            carry += *limb;
            *limb = i64::from(carry as u32);
            carry >>= LIMB_BITS;
        }
        carry += self.limbs[last];
        if i32::try_from(carry).is_ok() {
            self.limbs[last] = carry;
        } else {
            self.limbs[last] = i64::from(carry as u32);
            self.limbs.push(carry >> LIMB_BITS);
        }
    }
}
