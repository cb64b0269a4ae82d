//! What a fleet of sensors measures: pure, seeded, the same on every machine.
//!
//! Owns: devices, metrics, when each device measures, and what. Does not know: faults, formats, sending.
//!
//! Invariants: a value is a function of (fleet, device, metric, number of the sample) in integers, so that a checker works it
//! out again; values have two decimals; the times of a device rise strictly, and none is later than the instant at which the
//! sample is due to be sent.

use crate::random::{below, hash};
use headwater_core::time::{DAY, SECOND, Timestamp};
use std::fmt;

/// The most that a sample's time strays, in microseconds.
const MOST_JITTER: i64 = 50_000;
/// The shortest interval, in microseconds.
const SHORTEST_INTERVAL: i64 = 1_000;
const MOST_DEVICES: u32 = 1_000_000;
/// The slow part of a value comes back after this long.
const DRIFT_PERIOD: i64 = 30 * DAY;

const PHASE: u64 = 1;
const JITTER: u64 = 2;
const NOISE: u64 = 3;
const OFFSET: u64 = 4;
const DRIFT: u64 = 5;

/// A quantity; all numbers in hundredths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name on the wire.
    pub name: &'static str,
    base: i64,
    /// How far devices lie apart.
    spread: i64,
    /// How far the day moves it.
    daily: i64,
    noise: i64,
    drift: i64,
    least: i64,
    most: i64,
}

/// What devices can measure; a fleet uses the first few.
pub const METRICS: [Metric; 4] = [
    Metric { name: "temperature", base: 2_100, spread: 300, daily: 450, noise: 25, drift: 60, least: -4_000, most: 8_500 },
    Metric { name: "humidity", base: 4_800, spread: 900, daily: -1_100, noise: 120, drift: 200, least: 0, most: 10_000 },
    Metric { name: "pressure", base: 101_325, spread: 400, daily: 120, noise: 8, drift: 900, least: 90_000, most: 110_000 },
    Metric { name: "battery", base: 360, spread: 12, daily: 3, noise: 1, drift: 15, least: 200, most: 420 },
];

/// A number with two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hundredths(pub i64);

impl Hundredths {
    /// The f64 nearest to the decimal.
    pub const fn value(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, size) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:02}", size / 100, size % 100)
    }
}

/// A fleet: everything that its readings depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// What all chance comes from.
    pub seed: u64,
    /// How many devices.
    pub devices: u32,
    /// How many of [`METRICS`] each of them measures.
    pub metrics: usize,
    /// When the first sample may be.
    pub start: Timestamp,
    /// Between two samples of a device, in microseconds.
    pub interval: i64,
}

impl Fleet {
    /// Looks at whether there can be such a fleet.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self) -> Result<(), String> {
        if self.devices == 0 || self.devices > MOST_DEVICES {
            return Err(format!("a fleet has 1 to {MOST_DEVICES} devices, not {}", self.devices));
        }
        if self.metrics == 0 || self.metrics > METRICS.len() {
            return Err(format!("a device measures 1 to {} quantities, not {}", METRICS.len(), self.metrics));
        }
        if self.interval < SHORTEST_INTERVAL || self.interval > DAY {
            return Err(format!(
                "{} devices would each measure every {} ms; an interval is 1 ms to 1 d (more devices make it longer at the same rate)",
                self.devices,
                self.interval as f64 / 1e3
            ));
        }
        Ok(())
    }

    /// The interval, in microseconds, at which so many devices make `rate` readings a second.
    pub fn interval_for(rate: f64, devices: u32, metrics: usize) -> i64 {
        let readings_per_round = f64::from(devices) * metrics as f64;
        (readings_per_round / rate * SECOND as f64).round() as i64
    }

    /// The readings that are due each second.
    pub fn rate(&self) -> f64 {
        f64::from(self.devices) * self.metrics as f64 * SECOND as f64 / self.interval as f64
    }

    /// The id of a device.
    pub fn device(&self, device: u32) -> String {
        let plant = char::from(b'a' + u8::try_from(device % 10).unwrap_or_default());
        format!("plant-{plant}/sensor-{device:05}")
    }

    /// The device of an id.
    pub fn device_number(&self, id: &str) -> Option<u32> {
        let number = id.rsplit_once('-')?.1.parse().ok()?;
        (number < self.devices && self.device(number) == id).then_some(number)
    }

    /// The metrics that each device measures.
    pub fn metrics(&self) -> &'static [Metric] {
        &METRICS[..self.metrics.min(METRICS.len())]
    }

    /// Where in the interval a device measures, in microseconds.
    pub fn phase(&self, device: u32) -> i64 {
        let room = u64::try_from(self.interval - self.most_jitter()).unwrap_or_default();
        below(hash(self.seed, &[PHASE, device.into()]), room).cast_signed()
    }

    /// When a sample is taken, by a clock that is right.
    pub fn time(&self, device: u32, sample: u64) -> Timestamp {
        let room = self.most_jitter().cast_unsigned() + 1;
        let jitter = below(hash(self.seed, &[JITTER, device.into(), sample]), room).cast_signed();
        self.start.plus(self.nominal(device, sample).saturating_add(jitter))
    }

    /// When a sample is to be sent, in microseconds after the start.
    pub fn due(&self, device: u32, sample: u64) -> i64 {
        self.nominal(device, sample).saturating_add(self.most_jitter())
    }

    /// What a device measures.
    pub fn value(&self, device: u32, metric: usize, sample: u64) -> Hundredths {
        let Metric { base, spread, daily, noise, drift, least, most, .. } = METRICS[metric.min(METRICS.len() - 1)];
        let (device, index) = (u64::from(device), metric as u64);
        let chance = |what: u64, part: u64| hash(self.seed, &[what, device, index, part]);
        let at = self.start.0.saturating_add(self.nominal(u32::try_from(device).unwrap_or_default(), sample));
        let offset = below(chance(OFFSET, 0), 2 * spread.cast_unsigned() + 1).cast_signed() - spread;
        let drifted_by = below(chance(DRIFT, 0), DRIFT_PERIOD.cast_unsigned()).cast_signed();
        let slow = drift * wave(at.saturating_add(drifted_by), DRIFT_PERIOD) / 1000;
        let value = base + offset + daily * wave(at, DAY) / 1000 + slow + noise * bell(chance(NOISE, sample)) / 1000;
        Hundredths(value.clamp(least, most))
    }

    fn nominal(&self, device: u32, sample: u64) -> i64 {
        let rounds = i64::try_from(sample).unwrap_or(i64::MAX);
        rounds.saturating_mul(self.interval).saturating_add(self.phase(device))
    }

    const fn most_jitter(&self) -> i64 {
        if self.interval / 4 < MOST_JITTER { self.interval / 4 } else { MOST_JITTER }
    }
}

/// A round wave from −1000 to 1000 over `period`, of two parabolas: integers, because sines differ between machines.
fn wave(at: i64, period: i64) -> i64 {
    let (half, at) = (period / 2, at.rem_euclid(period));
    // In milliseconds, so that the square of half a month fits.
    let (width, x) = (half / 1000, at % half / 1000);
    let height = i64::try_from(4 * i128::from(x) * i128::from(width - x) * 1000 / i128::from(width * width)).unwrap_or_default();
    if at < half { height } else { -height }
}

/// From −1000 to 1000, more often near 0: the mean of four even numbers.
fn bell(bits: u64) -> i64 {
    let sum: u64 = (0..4).map(|n| (bits >> (16 * n)) & 0xFFFF).sum();
    (sum.cast_signed() - 131_070) * 1000 / 131_070
}
