//! That a summary depends only on the set of readings, and that percentiles keep their promise.

mod bytes;
mod sums;

use super::*;
use proptest::prelude::*;
use sketches_ddsketch::{Config, DDSketch};

type Reading = (i64, f64);

/// Finite values of all kinds; several of a kind usually meet in a bin, and some are equal.
fn value() -> impl Strategy<Value = f64> {
    let decimals = (-3000i32..3000).prop_map(|n| f64::from(n) / 100.0);
    let bits = any::<f64>().prop_filter("finite", |value| value.is_finite());
    let units = (0u64..1 << 53, 0u32..53, any::<bool>());
    let subnormal = units.prop_map(|(units, shift, negative)| {
        let magnitude = f64::from_bits(units >> shift);
        if negative { -magnitude } else { magnitude }
    });
    let huge = (0.5..=1.0).prop_map(|part| part * f64::MAX);
    prop_oneof![4 => decimals, 1 => bits, 2 => subnormal, 1 => huge, 1 => Just(0.0), 1 => Just(-0.0), 1 => Just(20.0)]
}

/// Values of one kind, or of all.
fn values(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    let many = n.clone();
    prop_oneof![
        prop::collection::vec(value(), n.clone()),
        prop::collection::vec(-50.0..50.0, n.clone()),
        prop::collection::vec((0u64..100_000).prop_map(f64::from_bits), n.clone()),
        prop::collection::vec((-308.0..308.0).prop_map(|power| 10f64.powf(power)), n.clone()),
        value().prop_flat_map(move |constant| prop::collection::vec(Just(constant), many.clone())),
    ]
}

/// Readings whose times often tie.
fn readings(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Reading>> {
    let time = prop_oneof![3 => 0i64..5, 1 => any::<i64>()];
    prop::collection::vec((time, value()), n)
}

fn rank() -> impl Strategy<Value = Rank> {
    (0u32..=1_000_000).prop_map(|n| Rank::parse(&format!("{}.{:04}", n / 10_000, n % 10_000)).unwrap())
}

fn of(values: &[f64]) -> Summary {
    let mut summary = Summary::new();
    let times: Vec<i64> = (0..values.len() as i64).collect();
    summary.add_run(&times, values);
    summary
}

fn of_readings(readings: &[Reading]) -> Summary {
    let mut summary = Summary::new();
    for &(time, value) in readings {
        summary.add(time, value);
    }
    summary
}

fn encoded(summary: &Summary) -> Vec<u8> {
    let mut bytes = Vec::new();
    summary.encode(&mut bytes);
    bytes
}

/// `percentile_disc` on the sorted values themselves, the rank in floats: exact for the tests' few decimals and counts.
fn true_percentile(values: &[f64], rank: Rank) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let part: f64 = rank.to_string().parse().unwrap();
    // Rounded to a millionth first, so that 99.9 of 1,000 is 999 and not 999.0000000001.
    let place = ((part * 10_000.0).round() * sorted.len() as f64 / 1_000_000.0).ceil() as usize;
    sorted[place.max(1) - 1]
}

proptest! {
    #[test]
    fn order_and_partition_change_nothing(
        (readings, shuffled) in readings(0..200).prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        cuts in prop::collection::vec(1usize..90, 1..20),
        from_the_right in any::<bool>(),
    ) {
        let whole = of_readings(&readings);
        let mut parts = Vec::new();
        let mut rest = shuffled.as_slice();
        for size in cuts.iter().cycle() {
            let (part, more) = rest.split_at((*size).min(rest.len()));
            parts.push(of_readings(part));
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        let merged = if from_the_right {
            parts.into_iter().rev().reduce(|right, mut left| { left.merge(&right); left })
        } else {
            parts.into_iter().reduce(|mut left, right| { left.merge(&right); left })
        };
        let merged = merged.unwrap_or_default();
        prop_assert_eq!(encoded(&merged), encoded(&whole));
        prop_assert!(merged == whole);
        prop_assert_eq!(merged.stddev(), whole.stddev());
    }

    #[test]
    fn a_run_is_its_readings_one_by_one(readings in readings(0..200)) {
        let (times, values): (Vec<i64>, Vec<f64>) = readings.iter().copied().unzip();
        let mut run = Summary::new();
        let middle = readings.len() / 3;
        run.add_run(&times[..middle], &values[..middle]);
        run.add_run(&times[middle..], &values[middle..]);
        prop_assert_eq!(encoded(&run), encoded(&of_readings(&readings)));
    }

    #[test]
    fn one_more_reading_is_another_summary(readings in readings(0..130), more in (any::<i64>(), value())) {
        let summary = of_readings(&readings);
        let mut other = summary.clone();
        other.add(more.0, more.1);
        prop_assert!(other != summary);
        prop_assert_ne!(encoded(&other), encoded(&summary));
    }

    #[test]
    fn ends_are_those_of_the_readings(readings in readings(1..200)) {
        let summary = of_readings(&readings);
        // total_cmp would put -0.0 first; a summary has no negative zero.
        let normal: Vec<Reading> = readings.iter().map(|&(time, value)| (time, value + 0.0)).collect();
        let by_value = |a: &&Reading, b: &&Reading| a.1.total_cmp(&b.1);
        let by_time = |a: &&Reading, b: &&Reading| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        prop_assert_eq!(summary.count(), readings.len() as u64);
        prop_assert_eq!(summary.min(), normal.iter().min_by(by_value).map(|reading| reading.1));
        prop_assert_eq!(summary.max(), normal.iter().max_by(by_value).map(|reading| reading.1));
        prop_assert_eq!(summary.first(), normal.iter().min_by(by_time).copied());
        prop_assert_eq!(summary.last(), normal.iter().max_by(by_time).copied());
    }

    #[test]
    fn percentiles_are_exact_up_to_64_readings(values in values(1..65), rank in rank()) {
        let summary = of(&values);
        prop_assert_eq!(summary.percentile_error(), 0.0);
        prop_assert_eq!(summary.percentile(rank), Some(true_percentile(&values, rank)));
    }

    #[test]
    fn percentiles_are_within_one_percent_above_that(values in values(65..400), ranks in prop::collection::vec(rank(), 10)) {
        let summary = of(&values);
        prop_assert_eq!(summary.percentile_error(), 0.01);
        for rank in ranks {
            let (truth, answer) = (true_percentile(&values, rank), summary.percentile(rank).unwrap());
            prop_assert!((answer - truth).abs() <= 0.01 * truth.abs(), "p{}: {} for {}", rank, answer, truth);
            prop_assert!(summary.min().unwrap() <= answer && answer <= summary.max().unwrap());
        }
        prop_assert_eq!(summary.percentile(Rank::percent(0)), summary.min());
        prop_assert_eq!(summary.percentile(Rank::percent(100)), summary.max());
    }

    #[test]
    fn percentiles_agree_with_another_sketch(values in prop::collection::vec(-1e6..1e6, 65..400), rank in rank()) {
        let mut theirs = DDSketch::new(Config::new(0.01, 4096, 1e-9));
        values.iter().for_each(|&value| theirs.add(value));
        let place = rank.place(values.len() as u64);
        // Their rank counts from 0 and is cut off, ours from 1: aim at the middle.
        let quantile = ((place as f64 - 0.5) / (values.len() - 1) as f64).min(1.0);
        let (ours, theirs) = (of(&values).percentile(rank).unwrap(), theirs.quantile(quantile).unwrap().unwrap());
        prop_assert!((ours - theirs).abs() <= 0.0203 * ours.abs(), "{} and {}", ours, theirs);
    }

    #[test]
    fn a_rank_reads_what_it_shows(rank in rank()) {
        prop_assert_eq!(Rank::parse(&rank.to_string()), Some(rank));
    }
}

#[test]
fn the_65th_reading_makes_a_sketch_and_merging_does_too() {
    let values: Vec<f64> = (1..=65).map(f64::from).collect();
    let mut summary = of(&values[..64]);
    assert_eq!(summary.percentile(Rank::percent(50)), Some(32.0));
    summary.add(64, 65.0);
    assert_eq!(summary.percentile_error(), 0.01);
    let answer = summary.percentile(Rank::percent(50)).unwrap();
    assert!(answer != 33.0 && (answer - 33.0).abs() < 0.33, "{answer}");

    let mut merged = of(&values[..33]);
    merged.merge(&of(&[]));
    assert_eq!(merged.percentile_error(), 0.0);
    let mut rest = Summary::new();
    rest.add_run(&(33..65).collect::<Vec<_>>(), &values[33..]);
    merged.merge(&rest);
    assert_eq!(encoded(&merged), encoded(&summary));
}

#[test]
fn percentile_disc_takes_the_least_reading_of_enough_rank() {
    let summary = of(&[10.0, 20.0, 30.0, 40.0]);
    let percentile = |text| summary.percentile(Rank::parse(text).unwrap());
    assert_eq!(percentile("0"), Some(10.0));
    assert_eq!(percentile("25"), Some(10.0));
    assert_eq!(percentile("25.0001"), Some(20.0));
    assert_eq!(percentile("50"), Some(20.0));
    assert_eq!(percentile("99.9"), Some(40.0));
    assert_eq!(Rank::parse("99.9").unwrap().place(1000), 999);
    assert_eq!(Rank::parse("99.9").unwrap().place(1001), 1000);
    assert_eq!(Rank::percent(100).place(u64::MAX), u64::MAX);
    assert_eq!(Rank::percent(0).place(u64::MAX), 1);
}

#[test]
fn a_rank_is_a_percentage_of_few_decimals() {
    assert_eq!(Rank::parse("50"), Some(Rank::percent(50)));
    assert_eq!(Rank::parse("50.0"), Some(Rank::percent(50)));
    assert_eq!(Rank::parse("100.0000"), Some(Rank::percent(100)));
    assert_eq!(Rank::percent(101), Rank::percent(100));
    for text in ["", ".", "p50", "-1", "+1", "1e1", "05", "5.", ".5", "100.0001", "101", "1000", "1.00000", " 5", "٣"] {
        assert_eq!(Rank::parse(text), None, "{text:?}");
    }
    for text in ["0", "0.5", "99.9", "99.9999", "100"] {
        assert_eq!(Rank::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn tied_times_give_the_least_first_and_the_greatest_last() {
    let summary = of_readings(&[(5, 2.0), (5, 3.0), (5, 1.0), (9, 7.0), (9, 8.0)]);
    assert_eq!((summary.first(), summary.last()), (Some((5, 1.0)), Some((9, 8.0))));
}

#[test]
fn nothing_is_known_of_no_readings() {
    let mut empty = Summary::default();
    empty.add(1, f64::NAN);
    empty.add(1, f64::INFINITY);
    empty.merge(&Summary::new());
    assert!(empty.is_empty() && empty == Summary::new());
    assert_eq!((empty.sum(), empty.mean(), empty.range()), (None, None, None));
    assert_eq!((empty.stddev(), empty.stddev_pop(), empty.percentile(Rank::percent(50))), (None, None, None));
    assert_eq!((empty.first(), empty.last(), empty.min(), empty.max()), (None, None, None, None));
}

#[test]
fn a_single_gap_between_bins_is_no_bin() {
    let middle_of_bin = |i: u32| ((f64::from(i) + 0.5) / 35.0).exp2();
    let without = |gap: u32| (0..100).filter(move |&i| i != gap).map(middle_of_bin);
    for gap in 0..100 {
        let (mut rising, mut falling) = (of(&without(gap).collect::<Vec<_>>()), of(&without(gap).rev().collect::<Vec<_>>()));
        falling.first = rising.first;
        falling.last = rising.last;
        assert_eq!(encoded(&rising), encoded(&falling));
        rising.add(0, middle_of_bin(gap));
        assert_eq!(rising.percentiles, of(&(0..100).map(middle_of_bin).collect::<Vec<_>>()).percentiles);
    }
}

#[test]
fn negative_zero_is_zero() {
    let (zeros, negatives) = (of(&[0.0; 70]), of(&[-0.0; 70]));
    assert_eq!(encoded(&zeros), encoded(&negatives));
    let mean = negatives.mean().unwrap();
    assert_eq!((mean.to_bits(), negatives.min().unwrap().to_bits()), (0, 0));
}

#[test]
fn readings_of_known_bins_take_no_more_memory() {
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 100) + 0.5).collect();
    let mut summary = of(&values);
    let before = summary.memory_bytes();
    assert!((500..6000).contains(&before), "{before}");
    summary.add_run(&[7; 1000], &values);
    assert_eq!(summary.memory_bytes(), before);
}
