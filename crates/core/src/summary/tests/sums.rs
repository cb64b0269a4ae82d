//! That sums are exact, and rounded once.

use super::*;
use crate::summary::exact::MOST_PENDING;

/// The sum of floats, exactly rounded: non-overlapping partial sums (Shewchuk 1997, as in Python's `math.fsum`), to check
/// integers with floats. Not for sums near the end of the range.
fn shewchuk_sum(values: &[f64]) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for &value in values {
        let mut x = value;
        let mut kept = Vec::new();
        for &partial in &partials {
            let (large, small) = if x.abs() < partial.abs() { (partial, x) } else { (x, partial) };
            let high = large + small;
            let low = small - (high - large);
            if low != 0.0 {
                kept.push(low);
            }
            x = high;
        }
        kept.push(x);
        partials = kept;
    }
    let mut sum = partials.pop().unwrap_or(0.0);
    while let Some(low) = partials.pop() {
        let before = sum;
        sum = before + low;
        let error = low - (sum - before);
        if error != 0.0 {
            // Half-way cases: what is left below decides.
            let next = partials.last().copied().unwrap_or(0.0);
            if (error < 0.0 && next < 0.0) || (error > 0.0 && next > 0.0) {
                let twice = error * 2.0;
                let moved = sum + twice;
                if twice == moved - sum {
                    sum = moved;
                }
            }
            break;
        }
    }
    sum + 0.0
}

/// `numerator` / `denominator` in 128 bits, rounded once. The denominator has fewer than 60 bits.
fn nearest_ratio(numerator: u128, denominator: u128) -> f64 {
    let shift = numerator.leading_zeros().min(127);
    let shifted = numerator << shift;
    let sticky = u128::from(!shifted.is_multiple_of(denominator));
    ((shifted / denominator) | sticky) as f64 * (-f64::from(shift)).exp2()
}

fn scaled(integers: &[i64], exponent: i32) -> Vec<f64> {
    integers.iter().map(|&n| n as f64 * f64::from(exponent).exp2()).collect()
}

proptest! {
    #[test]
    fn a_sum_is_that_of_floats_without_error(mut values in values(1..150)) {
        values.iter_mut().for_each(|value| if value.abs() > 1e300 { *value /= 1e10 });
        prop_assert_eq!(of(&values).sum(), Some(shewchuk_sum(&values)));
    }

    #[test]
    fn sum_mean_and_deviation_are_those_of_integers(
        integers in prop::collection::vec(-(1i64 << 45)..1 << 45, 2..100),
        small in any::<bool>(),
        exponent in -400i32..400,
    ) {
        let integers: Vec<i64> = integers.iter().map(|n| if small { n % 100 } else { *n }).collect();
        let scale = f64::from(exponent).exp2();
        let summary = of(&scaled(&integers, exponent));
        let n = integers.len() as i128;
        let sum: i128 = integers.iter().map(|&k| i128::from(k)).sum();
        let squares: i128 = integers.iter().map(|&k| i128::from(k) * i128::from(k)).sum();
        let spread = (n * squares - sum * sum) as u128;
        let mean = nearest_ratio(sum.unsigned_abs(), n as u128) * (sum.signum() as f64) * scale;
        prop_assert_eq!(summary.sum(), Some(sum as f64 * scale));
        prop_assert_eq!(summary.mean(), Some(mean));
        prop_assert_eq!(summary.stddev(), Some(nearest_ratio(spread, (n * (n - 1)) as u128).sqrt() * scale));
        prop_assert_eq!(summary.stddev_pop(), Some(nearest_ratio(spread, (n * n) as u128).sqrt() * scale));
    }

    #[test]
    fn constant_readings_do_not_deviate(constant in value(), n in 2usize..200) {
        let summary = of(&vec![constant; n]);
        prop_assert_eq!(summary.stddev(), Some(0.0));
        prop_assert_eq!(summary.stddev_pop(), Some(0.0));
        prop_assert_eq!(summary.mean(), Some(constant + 0.0));
        prop_assert_eq!(summary.range(), Some(0.0));
    }

    #[test]
    fn a_mean_lies_between_the_extremes_however_large(values in values(1..100)) {
        let summary = of(&values);
        let mean = summary.mean().unwrap();
        prop_assert!(summary.min().unwrap() <= mean && mean <= summary.max().unwrap());
        prop_assert!(!(mean == 0.0 && mean.is_sign_negative()));
    }
}

#[test]
fn what_cancels_leaves_the_rest() {
    let summary = of(&[1e308, 1.0, -1e308, 5e-324, -1.0]);
    assert_eq!((summary.sum(), summary.mean()), (Some(5e-324), Some(0.0)));
    // One rounding, not two: the sum is a little over the tie between 1 and the next f64.
    let half_ulp = f64::EPSILON / 2.0;
    assert_eq!(of(&[1.0, half_ulp]).sum(), Some(1.0));
    assert_eq!(of(&[1.0, half_ulp, 1e-300]).sum(), Some(1.0 + f64::EPSILON));
    assert_eq!(of(&[-1.0, -half_ulp, -1e-300]).sum(), Some(-1.0 - f64::EPSILON));
    assert_eq!(of(&[1.0 + f64::EPSILON, half_ulp]).sum(), Some(1.0 + 2.0 * f64::EPSILON));
}

#[test]
fn subnormal_quotients_round_to_even() {
    let tiny = f64::from_bits;
    assert_eq!(of(&[tiny(1), tiny(2)]).mean(), Some(tiny(2)));
    assert_eq!(of(&[tiny(1), tiny(0)]).mean(), Some(0.0));
    assert_eq!(of(&[tiny(1), tiny(1), tiny(0)]).mean(), Some(tiny(1)));
    assert_eq!(of(&[-tiny(1), tiny(0), tiny(0)]).mean().map(f64::to_bits), Some(0));
    assert_eq!(of(&[f64::MIN_POSITIVE, -tiny(1)]).sum(), Some(tiny((1 << 52) - 1)));
}

#[test]
fn a_sum_beyond_f64_is_none_and_the_rest_stands() {
    let mut summary = of(&[f64::MAX, f64::MAX]);
    assert_eq!((summary.sum(), summary.mean()), (None, Some(f64::MAX)));
    assert_eq!((summary.range(), summary.stddev()), (Some(0.0), Some(0.0)));
    summary.add(9, -f64::MAX);
    assert_eq!((summary.sum(), summary.range()), (Some(f64::MAX), None));
    // The greatest f64 is 2^1024 - 2^971: half of 2^971 more is the first that does not round to it.
    let half_ulp = f64::from(970).exp2();
    assert_eq!(of(&[f64::MAX, half_ulp]).sum(), None);
    assert_eq!(of(&[f64::MAX, half_ulp, -1e-300]).sum(), Some(f64::MAX));
    assert_eq!(of(&[-f64::MAX, -half_ulp]).sum(), None);
    let half_way = f64::from(1023).exp2();
    assert_eq!(of(&[half_way, half_way]).sum(), None);
    assert_eq!(of(&[half_way, half_way, -1.0]).sum(), None);
}

#[test]
fn a_deviation_reaches_from_the_smallest_to_the_largest_f64() {
    let tiny = f64::from_bits(1 << 20);
    assert_eq!(of(&[tiny, -tiny]).stddev_pop(), Some(tiny));
    assert_eq!(of(&[1e200, -1e200]).stddev_pop(), Some(1e200));
    assert_eq!(of(&[f64::MAX, -f64::MAX]).stddev_pop(), Some(f64::MAX));
    assert_eq!(of(&[f64::MAX, -f64::MAX]).stddev(), None);
    assert_eq!(of(&[3.0]).stddev(), None);
    assert_eq!(of(&[3.0]).stddev_pop(), Some(0.0));
    assert_eq!(of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).stddev_pop(), Some(2.0));
    // A naive sum of squares loses all of this.
    assert_eq!(of(&[1e15 + 1.0, 1e15 + 2.0, 1e15 + 3.0]).stddev(), Some(1.0));
}

#[test]
fn lazy_carries_never_overflow() {
    // Every limb of a sum and of its squares as full as it gets, 2^50 times over: far beyond what may stay pending.
    for value in [f64::from_bits((1023 << 52) + (1 << 52) - 1), -f64::MAX, f64::from_bits(u64::MAX >> 12)] {
        let mut summary = of(&[value]);
        for _ in 0..50 {
            let again = summary.clone();
            summary.merge(&again);
            summary.add(0, value);
            summary.add(0, -value);
        }
        assert_eq!(summary.count(), (1 << 50) + 2 * ((1 << 50) - 1));
        let times_2_to_50 = value * f64::from(50).exp2();
        assert_eq!(summary.sum(), times_2_to_50.is_finite().then_some(times_2_to_50));
        // All squares are alike, so this is |v| · sqrt(1 - mean² / v²) with a mean of v / 3.
        let deviation = summary.stddev_pop().unwrap() / value.abs();
        assert!((deviation - (8.0f64 / 9.0).sqrt()).abs() < 1e-14, "{deviation}");
    }
}

#[test]
fn merging_alone_settles_carries_too() {
    let mut summary = of(&[-f64::MAX, 1.75]);
    for _ in 0..50 {
        let again = summary.clone();
        summary.merge(&again);
    }
    assert_eq!(summary.mean(), Some(-f64::MAX / 2.0));
    assert!(summary.sum.pending <= MOST_PENDING && summary.squares.pending <= MOST_PENDING);
}

#[test]
fn carries_are_settled_when_many_are_pending() {
    let (mut plain, mut lazy) = (Accumulator::new(), Accumulator::new());
    for value in [-1.75, 1e-9, -3.5e9].into_iter().cycle().take(3000) {
        lazy.pending = MOST_PENDING;
        lazy.add(Parts::of(value));
        assert_eq!(lazy.pending, 1);
        plain.add(Parts::of(value));
    }
    assert_eq!(lazy.value(), plain.value());
    assert!(lazy.heap_bytes() < 100, "settling again and again must not add limbs: {}", lazy.heap_bytes());
}

#[test]
fn zeros_do_not_widen_a_sum() {
    assert_eq!(of(&[20.0, 0.0]).memory_bytes(), of(&[20.0, 20.0]).memory_bytes());
}

#[test]
fn what_a_division_cut_off_breaks_a_tie() {
    let tie = Natural::new(0, vec![1, 1 << 21]); // 2^53 + 1
    assert_eq!(tie.nearest(0, false), Some(9_007_199_254_740_992.0));
    assert_eq!(tie.nearest(0, true), Some(9_007_199_254_740_994.0));
    assert!(tie.over(&[7]).1 && !tie.over(&[2]).1);
}
