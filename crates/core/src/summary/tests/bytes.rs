//! That bytes are canonical and never trusted.

use super::*;
use crate::codec::{Damaged, put_crc};
use crate::summary::integer::Integer;

/// One of each shape: empty, one reading, exact, exactly 64, sketched with both signs and zeros, with far-apart sums.
fn samples() -> Vec<Summary> {
    let mixed: Vec<f64> = (-40..40).map(|i| f64::from(i) * 0.25).collect();
    let mut wide = of(&mixed);
    wide.merge(&of(&[1e308, -5e-324, 3e-310]));
    vec![of(&[]), of(&[21.5]), of(&[-1.5, 0.0, 1e-9, 21.5]), of(&mixed[..64]), of(&mixed), of(&[20.25; 65]), wide]
}

/// `bytes` with a checksum that fits what was done to them.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 4);
    put_crc(&mut bytes, 0);
    bytes
}

/// Asks everything, so that a summary that should not exist has its chance to panic.
fn interrogate(summary: &Summary) {
    let ranks = [0, 1, 50, 99, 100].map(|percent| summary.percentile(Rank::percent(percent)));
    let answers = [summary.sum(), summary.mean(), summary.range(), summary.stddev(), summary.stddev_pop()];
    for answer in ranks.into_iter().chain(answers).flatten() {
        assert!(answer.is_finite());
    }
    assert_eq!(summary.is_empty(), ranks[2].is_none());
    assert!(summary.count() > 1 || summary.stddev().is_none());
    let mut twice = summary.clone();
    twice.merge(summary);
    twice.add(0, 1.0);
    assert_eq!(twice.percentile(Rank::percent(0)), twice.min());
}

proptest! {
    #[test]
    fn a_summary_comes_back(readings in readings(0..200), before in prop::collection::vec(any::<u8>(), 0..5)) {
        let summary = of_readings(&readings);
        let mut bytes = before.clone();
        summary.encode(&mut bytes);
        prop_assert_eq!(&bytes[..before.len()], &before[..]);
        let mut back = Summary::decode(&bytes[before.len()..]).unwrap();
        prop_assert!(back == summary);
        prop_assert_eq!((back.mean(), back.stddev(), back.first()), (summary.mean(), summary.stddev(), summary.first()));
        // What came back goes on as the original would.
        let mut more = summary.clone();
        more.add(7, -2.5);
        back.add(7, -2.5);
        prop_assert_eq!(encoded(&back), encoded(&more));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Summary::decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_claims_never_panic(
        count in prop_oneof![0u64..200, any::<u64>()],
        claims in prop::collection::vec(prop_oneof![4 => 0u8..4, 1 => any::<u8>()], 0..200),
    ) {
        let mut bytes = b"HWs\x01".to_vec();
        crate::codec::put_varint(&mut bytes, count);
        bytes.extend(claims);
        put_crc(&mut bytes, 0);
        if let Ok(summary) = Summary::decode(&bytes) {
            interrogate(&summary);
            prop_assert_eq!(encoded(&summary), bytes);
        }
    }

    #[test]
    fn changed_bytes_under_a_right_checksum_never_panic(
        sample in 0usize..7,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&samples()[sample]);
        for (at, byte) in changes {
            let at = at.index(bytes.len() - 4);
            bytes[at] = byte;
        }
        let bytes = resealed(bytes);
        if let Ok(summary) = Summary::decode(&bytes) {
            interrogate(&summary);
            prop_assert_eq!(encoded(&summary), bytes);
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for summary in samples() {
        let bytes = encoded(&summary);
        assert!(Summary::decode(&bytes).unwrap() == summary);
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Summary::decode(&damaged).is_err(), "bit {bit} of {bytes:x?}");
        }
    }
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    for summary in samples() {
        let bytes = encoded(&summary);
        for n in 0..bytes.len() {
            assert!(Summary::decode(&bytes[..n]).is_err());
            if n >= 4 {
                assert!(Summary::decode(&resealed(bytes[..n].to_vec())).is_err(), "cut at {n}: {bytes:x?}");
            }
        }
        let mut longer = bytes.clone();
        longer.insert(bytes.len() - 4, 0);
        assert_eq!(Summary::decode(&resealed(longer)), Err(Damaged("more bytes than the encoding has")));
        assert!(Summary::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn another_spelling_is_refused() {
    // One reading of 21.5 at time 0, its value as plain f64 where a decimal is shorter.
    let mut bytes = b"HWs\x01\x01\x00\x00\xff".to_vec();
    bytes.extend(21.5f64.to_le_bytes());
    bytes.extend([0, 0]);
    put_crc(&mut bytes, 0);
    assert_eq!(Summary::decode(&bytes), Err(Damaged("a summary in another spelling than the canonical")));
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = encoded(&of(&[1.0]));
    bytes[3] = 2;
    assert_eq!(Summary::decode(&resealed(bytes)), Err(Damaged("a summary of an unknown version")));
}

/// A sketched summary that a test then falsifies: 70 readings from 1 to 70, times 0 to 69.
fn honest() -> Summary {
    of(&(1..=70).map(f64::from).collect::<Vec<_>>())
}

fn refusal_of(falsify: impl FnOnce(&mut Summary)) -> Damaged {
    let mut summary = honest();
    falsify(&mut summary);
    Summary::decode(&encoded(&summary)).unwrap_err()
}

#[test]
fn claims_that_contradict_each_other_are_refused() {
    let (ends, bins) = (Damaged("a first or last reading that cannot be"), Damaged("values outside their bins"));
    let sums = Damaged("sums that no such readings have");
    assert!(Summary::decode(&encoded(&honest())).is_ok());
    assert_eq!(refusal_of(|summary| summary.count += 1), Damaged("bins that do not add up to the count"));
    assert_eq!(refusal_of(|summary| summary.min = 0.5), bins);
    assert_eq!(refusal_of(|summary| summary.min = 2.0), bins);
    assert_eq!(refusal_of(|summary| summary.max = 71.5), bins);
    assert_eq!(refusal_of(|summary| summary.first.1 = 1.5), bins);
    assert_eq!(refusal_of(|summary| summary.last.1 = -70.0), bins);
    assert_eq!(refusal_of(|summary| summary.last.1 = 70.0001), ends);
    assert_eq!(refusal_of(|summary| summary.last.1 = 1.0), ends);
    assert_eq!(refusal_of(|summary| summary.last = (0, 69.0)), ends);
    assert_eq!(refusal_of(|summary| summary.sum = Accumulator::new()), sums);
    assert_eq!(refusal_of(|summary| summary.sum.add(Parts::of(1e9))), sums);
    assert_eq!(refusal_of(|summary| summary.squares = Accumulator::new()), sums);
    assert_eq!(refusal_of(|summary| summary.squares.add_square(Parts::of(1e9))), sums);
    let constant = of(&[35.0; 70]);
    assert_eq!(refusal_of(|summary| (summary.sum, summary.squares) = (constant.sum, constant.squares)), sums);
    let negative = Integer::new(true, honest().squares.value().magnitude);
    assert_eq!(refusal_of(|summary| summary.squares = Accumulator::of(&negative).unwrap()), sums);
    assert_eq!(refusal_of(|summary| summary.min = f64::NAN), Damaged("a value that no reading has"));
    assert_eq!(refusal_of(|summary| summary.min = -0.0), Damaged("a value that no reading has"));
}

#[test]
fn exact_values_that_contradict_first_and_last_are_refused() {
    let ends = Damaged("a first or last reading that cannot be");
    let decoded = |falsify: fn(&mut Summary)| {
        let mut summary = of(&[1.0, 2.0]);
        falsify(&mut summary);
        Summary::decode(&encoded(&summary))
    };
    assert!(decoded(|_| ()).is_ok());
    assert_eq!(decoded(|summary| summary.last.1 = 1.0), Err(ends.clone()));
    assert_eq!(decoded(|summary| summary.last = (0, 1.0)), Err(ends));
    assert_eq!(decoded(|summary| summary.last.1 = 3.0), Err(Damaged("a place beyond the values")));
    let mut reversed = of(&[1.0, 2.0]);
    reversed.percentiles = Percentiles::Exact(vec![2.0, 1.0]);
    assert_eq!(Summary::decode(&encoded(&reversed)), Err(Damaged("values out of order")));
}

#[test]
fn version_one_is_written_as_it_always_was() {
    let hex = |summary: &Summary| encoded(summary).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&of(&[])), "4857730100c634d7b7");
    assert_eq!(hex(&of(&[21.5, -1.25])), "4857730102000102f901c623010024f5f365");
    let mut sketched = of(&[21.5; 40]);
    sketched.add_run(&[100; 40], &[-1.25; 40]);
    sketched.add(101, 0.0);
    assert_eq!(
        hex(&sketched),
        "48577301510065000000000000f4bf00000000008035400000000000803540000000000000000042010000a80c860101\
         888704000101162801b40228fa594d47"
    );
}
