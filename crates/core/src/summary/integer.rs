//! Integers of any size, as far as exact statistics need them: products, a difference, a quotient, and rounding to f64.
//!
//! Does not know: what is summed. A number is in units of some power of two that only rounding has to be told.

use std::cmp::Ordering;

pub(super) const LIMB_BITS: i64 = 32;
/// What [`Natural::over`] puts below the number for each divisor (each is below 2^64), so that at least 64 bits of the
/// quotient are left: more than rounding looks at.
const EXTENSION_LIMBS: usize = 4;
const MANTISSA_BITS: i64 = 53;
/// The exponent of the least f64.
const LEAST_EXPONENT: i64 = -1074;

/// A number with a sign; zero is not negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: Natural,
}

/// Σ limbs\[i\] · 2^(32 · (base + i)); neither the first nor the last limb is zero, and zero has no limbs and base 0: equal
/// numbers have equal fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Natural {
    base: i64,
    limbs: Vec<u32>,
}

impl Integer {
    pub(super) fn new(negative: bool, magnitude: Natural) -> Self {
        Self { negative: negative && !magnitude.limbs.is_empty(), magnitude }
    }

    pub(super) fn times(&self, factor: u64) -> Self {
        Self::new(self.negative, self.magnitude.times(factor))
    }

    /// Gives an absolute value the sign of this; zero stays positive zero.
    pub(super) fn signed(&self, absolute: f64) -> f64 {
        if self.negative && absolute > 0.0 { -absolute } else { absolute }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.magnitude.cmp(&other.magnitude),
            (true, true) => other.magnitude.cmp(&self.magnitude),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl Natural {
    pub(super) fn new(base: i64, mut limbs: Vec<u32>) -> Self {
        limbs.truncate(limbs.iter().rposition(|&limb| limb != 0).map_or(0, |last| last + 1));
        let n_zeros = limbs.iter().take_while(|&&limb| limb == 0).count();
        limbs.drain(..n_zeros);
        let base = if limbs.is_empty() { 0 } else { base + n_zeros as i64 };
        Self { base, limbs }
    }

    pub(super) fn base(&self) -> i64 {
        self.base
    }

    pub(super) fn limbs(&self) -> &[u32] {
        &self.limbs
    }

    pub(super) fn times(&self, factor: u64) -> Self {
        let mut carry = 0u128;
        let mut limbs = Vec::with_capacity(self.limbs.len() + 2);
        for &limb in &self.limbs {
            carry += u128::from(limb) * u128::from(factor);
            limbs.push(carry as u32);
            carry >>= LIMB_BITS;
        }
        limbs.extend([carry as u32, (carry >> LIMB_BITS) as u32]);
        Self::new(self.base, limbs)
    }

    pub(super) fn square(&self) -> Self {
        let mut limbs = vec![0u32; 2 * self.limbs.len()];
        for (i, &a) in self.limbs.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &b) in self.limbs.iter().enumerate() {
                carry += u64::from(a) * u64::from(b) + u64::from(limbs[i + j]);
                limbs[i + j] = carry as u32;
                carry >>= LIMB_BITS;
            }
            limbs[i + self.limbs.len()] = carry as u32;
        }
        Self::new(2 * self.base, limbs)
    }

    /// The difference, unless it is below zero.
    pub(super) fn minus(&self, other: &Self) -> Option<Self> {
        if self < other {
            return None;
        }
        if other.limbs.is_empty() {
            return Some(self.clone());
        }
        let base = self.base.min(other.base);
        let mut borrow = 0i64;
        let difference = (base..self.end()).map(|at| {
            borrow += i64::from(self.limb(at)) - i64::from(other.limb(at));
            let limb = borrow as u32;
            borrow >>= LIMB_BITS;
            limb
        });
        Some(Self::new(base, difference.collect()))
    }

    /// The quotient by all of `divisors` (none of them 0), cut off far below what rounding looks at, and whether something
    /// was cut off.
    pub(super) fn over(&self, divisors: &[u64]) -> (Self, bool) {
        let n_low = EXTENSION_LIMBS * divisors.len();
        let mut limbs = vec![0u32; n_low];
        limbs.extend_from_slice(&self.limbs);
        let mut inexact = false;
        for &divisor in divisors {
            let mut rest = 0u64;
            for limb in limbs.iter_mut().rev() {
                let dividend = u128::from(rest) << LIMB_BITS | u128::from(*limb);
                *limb = (dividend / u128::from(divisor)) as u32;
                rest = (dividend % u128::from(divisor)) as u64;
            }
            inexact |= rest != 0;
        }
        (Self::new(self.base - n_low as i64, limbs), inexact)
    }

    /// The nearest f64 (ties to even), counting in units of 2^`unit`; `inexact` says that the number is a little more than
    /// it says. `None` beyond the range of f64.
    pub(super) fn nearest(&self, unit: i64, inexact: bool) -> Option<f64> {
        let (mantissa, exponent) = self.rounded(unit, inexact, LEAST_EXPONENT);
        if exponent > 971 || (exponent == 971 && mantissa == 1 << 53) {
            return None;
        }
        // A mantissa of 2^53 carries into the exponent, one below 2^52 is subnormal: both come out right by adding.
        Some(f64::from_bits((((exponent - LEAST_EXPONENT) as u64) << 52) + mantissa))
    }

    /// The square root, as of the variance rounded once to 53 bits (which may lie beyond the range of f64 without harm).
    pub(super) fn square_root(&self, unit: i64, inexact: bool) -> Option<f64> {
        let (mantissa, exponent) = self.rounded(unit, inexact, i64::MIN / 2);
        let odd = exponent.rem_euclid(2);
        let root = ((mantissa << odd) as f64).sqrt();
        // Two steps, for the power itself may be below f64's range where the product is not.
        let exponent = (exponent - odd) / 2;
        let step = exponent.max(-1000);
        let root = root * power_of_two(step) * power_of_two(exponent - step);
        root.is_finite().then_some(root)
    }

    /// (m, e) with m · 2^e nearest to the number in units of 2^`unit`, m of 53 bits (or 2^53, by rounding up; or fewer bits
    /// where e would be below `floor`).
    fn rounded(&self, unit: i64, inexact: bool, floor: i64) -> (u64, i64) {
        let lowest = unit + LIMB_BITS * self.base;
        let exponent = (lowest + self.bits() - MANTISSA_BITS).max(floor);
        let cut = exponent - lowest;
        if cut <= 0 {
            return (self.bits_from(0) << -cut, exponent);
        }
        let mantissa = self.bits_from(cut);
        let half = self.bits_from(cut - 1) & 1 == 1;
        let rest = inexact || self.any_below(cut - 1);
        let up = half && (rest || mantissa & 1 == 1);
        (mantissa + u64::from(up), exponent)
    }

    /// How many bits the limbs have, from the lowest limb's first to the highest that is set.
    fn bits(&self) -> i64 {
        let top = self.limbs.last().map_or(0, |last| i64::from(last.leading_zeros()));
        LIMB_BITS * self.limbs.len() as i64 - top
    }

    /// The bits from one on, counted from the lowest limb's first; at most 64 of them.
    fn bits_from(&self, bit: i64) -> u64 {
        let at = self.base + bit / LIMB_BITS;
        let window = (0..3).map(|i| u128::from(self.limb(at + i)) << (LIMB_BITS * i)).sum::<u128>();
        (window >> (bit % LIMB_BITS)) as u64
    }

    fn any_below(&self, bit: i64) -> bool {
        let at = self.base + bit / LIMB_BITS;
        let part = self.limb(at) & ((1 << (bit % LIMB_BITS)) - 1);
        // The first limb is not zero.
        part != 0 || (at > self.base && !self.limbs.is_empty())
    }

    fn limb(&self, at: i64) -> u32 {
        let at = usize::try_from(at - self.base).ok();
        at.and_then(|at| self.limbs.get(at)).copied().unwrap_or(0)
    }

    fn end(&self) -> i64 {
        self.base + self.limbs.len() as i64
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.limbs.is_empty() || other.limbs.is_empty() {
            return self.limbs.len().cmp(&other.limbs.len());
        }
        let ends = self.end().cmp(&other.end());
        let lowest = self.base.min(other.base);
        let limbs = || (lowest..self.end()).rev().map(|at| self.limb(at).cmp(&other.limb(at)));
        ends.then_with(|| limbs().find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
    }
}

/// 2^`exponent`, 0 below the range of f64 and infinity above.
fn power_of_two(exponent: i64) -> f64 {
    match exponent {
        ..-1074 => 0.0,
        -1074..-1022 => f64::from_bits(1 << (exponent + 1074)),
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
    }
}
