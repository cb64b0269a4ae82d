//! What a simulator promises, apart from a server: [`crate::load`] has its tests with servers that misbehave.

mod journal;
mod load;

use crate::encode::Format;
use crate::faults::{Fault, Faults};
use crate::fleet::{Fleet, Hundredths};
use crate::stream::{Batch, Form, Reading, Stream};
use headwater_core::glob::DevicePatterns;
use headwater_core::series::SeriesKey;
use headwater_core::time::{DAY, HOUR, SECOND, Timestamp};
use headwater_wire::{Context, Decoded, Precision, json, line};
use std::collections::{BTreeMap, HashSet};

/// 2026-01-05T00:00:00Z.
pub(super) const START: Timestamp = Timestamp(1_767_571_200 * SECOND);

pub(super) fn fleet(devices: u32, interval: i64) -> Fleet {
    Fleet { seed: 7, devices, metrics: 2, start: START, interval }
}

fn batches(fleet: Fleet, faults: Faults, size: usize, n: usize) -> Vec<Batch> {
    let mut stream = Stream::new(fleet, faults, size);
    let mut batches: Vec<Batch> = (0..n).map(|_| stream.next_batch()).collect();
    let due = batches.last().map_or(0, |batch| batch.due);
    batches.extend(stream.rest(due));
    batches
}

fn readings(batches: &[Batch]) -> Vec<Reading> {
    batches.iter().flat_map(|batch| batch.readings.iter().copied()).collect()
}

#[test]
fn the_same_seed_sends_the_same_bytes_and_another_does_not() {
    let bytes = |seed: u64| -> Vec<Vec<u8>> {
        let fleet = Fleet { seed, ..fleet(50, 10 * SECOND) };
        let batches = batches(fleet, Faults::a_little_of_everything(), 40, 100);
        batches.iter().flat_map(|batch| [Format::Json, Format::Line].map(|format| format.encode(&fleet, &batch.readings))).collect()
    };
    assert!(bytes(1) == bytes(1));
    assert!(bytes(1) != bytes(2));
}

#[test]
fn a_device_s_times_rise_and_none_is_later_than_its_sending() {
    for interval in [1_000, 20_000, 10 * SECOND] {
        let fleet = fleet(20, interval);
        for device in 0..20 {
            for sample in 0..200 {
                let (time, due) = (fleet.time(device, sample), fleet.due(device, sample));
                assert!(time < fleet.time(device, sample + 1) && time <= START.plus(due), "{device} {sample}");
            }
        }
    }
}

#[test]
fn values_follow_the_day_with_noise_and_two_decimals() {
    let fleet = fleet(10, 600 * SECOND);
    for device in 0..10 {
        let of_hour = |hour: u64| -> f64 {
            let samples = (0..7).flat_map(|day| (0..6).map(move |n| (day * 24 + hour) * 6 + n));
            samples.map(|sample| fleet.value(device, 0, sample).value()).sum::<f64>() / 42.0
        };
        assert!(of_hour(6) > of_hour(18) + 5.0, "device {device}: {} and {}", of_hour(6), of_hour(18));
        let noisy: HashSet<Hundredths> = (0..20).map(|sample| fleet.value(device, 0, sample)).collect();
        assert!(noisy.len() > 5);
    }
    for (hundredths, text) in [(2153, "21.53"), (-5, "-0.05"), (-1200, "-12.00"), (0, "0.00"), (7, "0.07")] {
        assert_eq!(Hundredths(hundredths).to_string(), text);
        assert_eq!(text.parse::<f64>().unwrap(), Hundredths(hundredths).value());
    }
}

#[test]
fn ids_lead_back_to_devices() {
    let fleet = fleet(1_000, SECOND);
    assert_eq!(fleet.device(42), "plant-c/sensor-00042");
    for device in 0..1_000 {
        assert_eq!(fleet.device_number(&fleet.device(device)), Some(device));
    }
    for id in ["plant-a/sensor-00042", "plant-c/sensor-42", "plant-a/sensor-01000", "x", "plant-c/sensor-"] {
        assert_eq!(fleet.device_number(id), None, "{id}");
    }
}

#[test]
fn a_rate_gives_the_interval_that_makes_it() {
    let interval = Fleet::interval_for(10_000.0, 1_000, 2);
    assert_eq!(interval, 200_000);
    assert!((fleet(1_000, interval).rate() - 10_000.0).abs() < 1e-6);
    assert!(fleet(1, 10).validate().unwrap_err().contains("more devices"));
    assert!(fleet(0, SECOND).validate().is_err());
}

#[test]
fn batches_are_due_in_order_full_or_a_second_long() {
    let fleet = fleet(100, 10 * SECOND);
    let all = batches(fleet, Faults::NONE, 50, 100);
    assert!(all.windows(2).all(|pair| pair[0].due <= pair[1].due && pair[0].number + 1 == pair[1].number));
    assert!(all.iter().all(|batch| batch.readings.len() < 50), "100 devices make 20 readings a second");
    for batch in &all {
        let dues: Vec<i64> = batch.readings.iter().map(|reading| fleet.due(reading.device, reading.sample)).collect();
        assert!(dues.iter().all(|due| batch.due - due <= SECOND && *due <= batch.due));
    }
    assert!(batches(fleet, Faults::NONE, 4, 100).iter().all(|batch| batch.readings.len() == 4));
}

#[test]
fn every_reading_is_sent_and_only_duplicates_twice() {
    let faults = Faults::a_little_of_everything();
    let all = readings(&batches(fleet(50, SECOND), faults, 100, 400));
    let mut times: BTreeMap<(u32, u64, usize), (u32, u32)> = BTreeMap::new();
    for reading in &all {
        let entry = times.entry((reading.device, reading.sample, reading.metric)).or_default();
        if reading.fault == Some(Fault::Duplicates) { entry.1 += 1 } else { entry.0 += 1 }
    }
    assert!(times.values().all(|(once, again)| *once == 1 && *again <= 1));
    let last = all.iter().map(|reading| reading.sample).max().unwrap();
    let complete = (0..50).all(|device| (0..last).all(|sample| (0..2).all(|metric| times.contains_key(&(device, sample, metric)))));
    assert!(complete, "nothing is held back for good");
}

/// Of the samples or readings that a fault can befall, how many it does.
fn share(fault: Fault) -> f64 {
    let all = batches(fleet(500, SECOND), Faults::NONE.with(fault, 0.05), 10, 10_000);
    if fault == Fault::Retries {
        return all.iter().filter(|batch| batch.loss.is_some()).count() as f64 / all.len() as f64;
    }
    let all = readings(&all);
    all.iter().filter(|reading| reading.fault == Some(fault)).count() as f64 / all.len() as f64
}

#[test]
fn every_fault_occurs_at_about_its_rate() {
    for fault in Fault::ALL {
        let share = share(*fault);
        assert!((0.04..0.06).contains(&share), "{}: {share} instead of 0.05", fault.as_str());
    }
}

#[test]
fn every_fault_is_what_it_says() {
    let fleet = fleet(100, SECOND);
    let of = |fault: Fault| readings(&batches(fleet, Faults::NONE.with(fault, 0.05), 50, 1_000));
    let ahead = |reading: &Reading| reading.time.0 - fleet.time(reading.device, reading.sample).0;
    for fault in Fault::ALL {
        let all = of(*fault);
        let befallen: Vec<&Reading> = all.iter().filter(|reading| reading.fault == Some(*fault)).collect();
        for reading in &befallen {
            let is = match fault {
                Fault::Late => (-DAY..=-60 * SECOND).contains(&ahead(reading)) && reading.is_good(),
                Fault::Future => (DAY..30 * DAY).contains(&ahead(reading)) && !reading.is_good(),
                Fault::Malformed => reading.form == Form::Malformed && !reading.is_good(),
                Fault::Nan => reading.form == Form::Nan && !reading.is_good(),
                Fault::ClockJump if reading.is_good() => reading.time == fleet.time(reading.device, reading.sample - 8),
                Fault::ClockJump => reading.time.0 < 0,
                Fault::Duplicates | Fault::OutOfOrder | Fault::Offline => ahead(reading) == 0 && reading.is_good(),
                Fault::Retries => false,
            };
            assert!(is, "{reading:?}");
        }
        let others = all.iter().filter(|reading| reading.fault.is_none());
        assert!(others.into_iter().all(|reading| ahead(reading) == 0 && reading.is_good()));
        match fault {
            Fault::OutOfOrder | Fault::Offline => assert!(comes_after_later_ones(&fleet, &all, *fault)),
            Fault::ClockJump => {
                assert!(befallen.iter().any(|reading| reading.is_good()) && befallen.iter().any(|reading| !reading.is_good()));
            }
            _ => {}
        }
    }
}

/// Whether before each reading of this fault one was sent that is due later. (At the end, everything that is held back is sent.)
fn comes_after_later_ones(fleet: &Fleet, all: &[Reading], fault: Fault) -> bool {
    let mut latest = i64::MIN;
    all[..all.len() * 9 / 10].iter().all(|reading| {
        let due = fleet.due(reading.device, reading.sample);
        let after = latest > due;
        latest = latest.max(due);
        after || reading.fault != Some(fault)
    })
}

#[test]
fn a_fault_that_always_happens_still_sends_what_it_should() {
    for fault in Fault::ALL {
        let all = readings(&batches(fleet(2, SECOND), Faults::NONE.with(*fault, 1.0), 10, 100));
        assert!(all.len() >= 400, "{}", fault.as_str());
    }
}

fn decoded(format: Format, body: &[u8]) -> Decoded {
    let tags = ["device".to_owned()];
    let context = Context {
        received_at: START.plus(HOUR),
        now: START.plus(HOUR),
        devices: &DevicePatterns::All,
        own_device: None,
        device_tags: &tags,
        fallback_device: None,
        precision: Precision::Microseconds,
        max_metrics: 256,
    };
    match format {
        Format::Json => json::decode(body, &context).unwrap(),
        Format::Line => line::decode(body, &context),
    }
}

#[test]
fn a_server_reads_of_a_body_what_was_meant_and_refuses_what_has_to_be_refused() {
    let fleet = fleet(100, SECOND);
    let faults = Fault::ALL.iter().fold(Faults::NONE, |faults, fault| faults.with(*fault, 0.05));
    for format in [Format::Json, Format::Line] {
        for batch in batches(fleet, faults, 60, 200) {
            let decoded = decoded(format, &format.encode(&fleet, &batch.readings));
            let batch_of = &decoded.batch;
            let found: Vec<(String, i64, f64)> = (0..batch_of.len())
                .map(|i| (batch_of.dictionary.key(batch_of.series[i]).to_owned(), batch_of.times[i], batch_of.values[i]))
                .collect();
            let key = |reading: &Reading| {
                let metric = fleet.metrics()[reading.metric].name;
                SeriesKey::new(&fleet.device(reading.device), metric, &[]).unwrap().as_str().to_owned()
            };
            let meant: Vec<(String, i64, f64)> =
                batch.good().map(|reading| (key(reading), reading.time.0, reading.value.value())).collect();
            assert_eq!(found, meant);
            let refused: Vec<_> = decoded.refused.iter().flat_map(|refused| (0..refused.count).map(|_| refused.reason)).collect();
            let to_refuse: Vec<_> = batch.readings.iter().filter_map(|reading| format.refusal(reading)).collect();
            assert_eq!(refused, to_refuse);
        }
    }
}

#[test]
fn faults_are_read_as_they_are_written() {
    let faults = Faults::parse(" duplicates=1%, late = 0.02,nan=100%,offline=.5 ,").unwrap();
    let rates: Vec<(Fault, f64)> = Fault::ALL.iter().map(|fault| (*fault, faults.rate(*fault))).filter(|(_, rate)| *rate > 0.0).collect();
    assert_eq!(rates, [(Fault::Duplicates, 0.01), (Fault::Late, 0.02), (Fault::Nan, 1.0), (Fault::Offline, 0.5)]);
    assert_eq!(Faults::parse(&faults.to_string()), Ok(faults));
    assert_eq!(Faults::parse(""), Ok(Faults::NONE));
    for (text, why) in [
        ("lte=1%", "no fault `lte`; choose of duplicates, retries, late, out_of_order, future, malformed, nan, clock_jump, offline"),
        ("late", "NAME=RATE"),
        ("late=", "no rate"),
        ("late=x", "no rate"),
        ("late=-1%", "no rate"),
        ("late=101%", "at most 100%"),
        ("late=1.1", "at most 100%"),
        ("late=1e-3", "no rate"),
        ("late=NaN", "no rate"),
        ("late=1%,late=2%", "twice"),
    ] {
        let refused = Faults::parse(text).unwrap_err();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}
