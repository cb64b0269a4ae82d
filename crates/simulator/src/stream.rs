//! What a fleet sends, in order, faults and all.
//!
//! Owns: which readings go into which request and when it is due; what each fault does to a reading. Does not know: formats,
//! the network, the time of day.
//! Invariants: the same fleet, faults and size give the same batches; what a device holds back is bounded.

use crate::faults::{Fault, Faults, SPELL};
use crate::fleet::{Fleet, Hundredths};
use crate::random::{below, hash};
use headwater_core::time::{DAY, EARLIEST, SECOND, Timestamp};

/// Samples that a device holds back at most; then it sends them, whatever the fault says.
const MOST_HELD: usize = 256;
/// The longest that a request waits for more readings, in microseconds.
const LINGER: i64 = SECOND;

const HOW_LATE: u64 = 200;
const HOW_FAR: u64 = 201;
const HOW_LONG: u64 = 202;
const WHICH_JUMP: u64 = 203;
const WHICH_LOSS: u64 = 204;

/// How a reading is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it should be.
    Good,
    /// As something that is no reading.
    Malformed,
    /// With a value that is no number.
    Nan,
}

/// One reading on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Number of the device.
    pub device: u32,
    /// Number of the metric.
    pub metric: usize,
    /// Number of the device's sample.
    pub sample: u64,
    /// What the device says when it was.
    pub time: Timestamp,
    /// What was measured.
    pub value: Hundredths,
    /// How it is written.
    pub form: Form,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

impl Reading {
    /// Whether a server takes it. It refuses what is no reading, what lies ahead (a day at least) and what is before 1990.
    pub fn is_good(&self) -> bool {
        self.form == Form::Good && self.fault != Some(Fault::Future) && self.time >= EARLIEST
    }
}

/// How the answer to a request gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It came, but the sender does not hear it.
    Unheard,
    /// The connection is cut so many microseconds after sending began.
    Cut(u64),
}

/// The readings of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number, from 0.
    pub number: u64,
    /// When it is to be sent, in microseconds after the fleet's start.
    pub due: i64,
    /// In the order of the body.
    pub readings: Vec<Reading>,
    /// Whether, and how, its first answer gets lost.
    pub loss: Option<Loss>,
}

impl Batch {
    /// The readings that a server takes.
    pub fn good(&self) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(|reading| reading.is_good())
    }
}

/// What a device has not sent yet.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// The sample with which it goes.
    until: u64,
    sample: u64,
    fault: Fault,
    /// Only this metric; `None` = all of the sample.
    metric: Option<usize>,
}

/// All batches of a fleet; it never ends by itself.
#[derive(Debug)]
pub struct Stream {
    fleet: Fleet,
    faults: Faults,
    size: usize,
    /// Devices by phase.
    order: Vec<u32>,
    held: Vec<Vec<Held>>,
    round: u64,
    at: usize,
    number: u64,
}

impl Stream {
    /// A fleet's batches of at least `size` readings, or of what is due within a second.
    pub fn new(fleet: Fleet, faults: Faults, size: usize) -> Self {
        let mut order: Vec<u32> = (0..fleet.devices).collect();
        order.sort_by_cached_key(|device| (fleet.phase(*device), *device));
        Self { fleet, faults, size, held: vec![Vec::new(); order.len()], order, round: 0, at: 0, number: 0 }
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        let (mut readings, mut first, mut due) = (Vec::with_capacity(self.size + 8), None, 0);
        while readings.len() < self.size {
            let next = self.fleet.due(self.order[self.at], self.round);
            if !readings.is_empty() && next - first.unwrap_or(next) > LINGER {
                break;
            }
            first = first.or(Some(next));
            due = next;
            self.step(&mut readings);
        }
        self.batch(due, readings)
    }

    /// Everything that devices still hold back, due at `due`. The stream is at its end after that.
    pub fn rest(&mut self, due: i64) -> Vec<Batch> {
        let mut readings = Vec::new();
        for device in self.order.clone() {
            for held in std::mem::take(&mut self.held[device as usize]) {
                self.emit(device, held, &mut readings);
            }
        }
        let size = self.size.max(1);
        let chunks: Vec<Vec<Reading>> = readings.chunks(size).map(<[Reading]>::to_vec).collect();
        chunks.into_iter().map(|readings| self.batch(due, readings)).collect()
    }

    fn batch(&mut self, due: i64, readings: Vec<Reading>) -> Batch {
        let number = self.number;
        self.number += 1;
        let lost = self.faults.happens(Fault::Retries, self.fleet.seed, [number, 0, 0]);
        let chance = hash(self.fleet.seed, &[WHICH_LOSS, number]);
        let loss = lost.then(|| if chance & 1 == 0 { Loss::Unheard } else { Loss::Cut(below(chance, 5_000)) });
        Batch { number, due, readings, loss }
    }

    /// One device's turn.
    fn step(&mut self, readings: &mut Vec<Reading>) {
        let (device, sample) = (self.order[self.at], self.round);
        self.at += 1;
        if self.at == self.order.len() {
            (self.at, self.round) = (0, self.round + 1);
        }
        let full = self.held[device as usize].len() >= MOST_HELD;
        if !full && self.spell(Fault::Offline, device, sample) {
            self.hold(device, Held { until: sample + 1, sample, fault: Fault::Offline, metric: None });
            return;
        }
        let (go, stay): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held[device as usize]).into_iter().partition(|held| full || held.until <= sample);
        self.held[device as usize] = stay;
        // What was measured while offline comes first, in order; what is out of order or a repeat comes after.
        for held in go.iter().filter(|held| held.fault == Fault::Offline) {
            self.emit(device, *held, readings);
        }
        self.own(device, sample, readings);
        for held in go.iter().filter(|held| held.fault != Fault::Offline) {
            self.emit(device, *held, readings);
        }
    }

    fn own(&mut self, device: u32, sample: u64, readings: &mut Vec<Reading>) {
        if self.of_sample(Fault::OutOfOrder, device, sample) {
            let by = 1 + below(hash(self.fleet.seed, &[HOW_LONG, device.into(), sample]), 3);
            self.hold(device, Held { until: sample + by, sample, fault: Fault::OutOfOrder, metric: None });
            return;
        }
        for metric in 0..self.fleet.metrics().len() {
            let reading = self.reading(device, metric, sample);
            readings.push(reading);
            let again = [device.into(), sample, metric as u64];
            if reading.is_good() && self.faults.happens(Fault::Duplicates, self.fleet.seed, again) {
                self.hold(device, Held { until: sample + 1, sample, fault: Fault::Duplicates, metric: Some(metric) });
            }
        }
    }

    fn hold(&mut self, device: u32, held: Held) {
        self.held[device as usize].push(held);
    }

    fn emit(&self, device: u32, held: Held, readings: &mut Vec<Reading>) {
        for metric in 0..self.fleet.metrics().len() {
            if held.metric.is_none_or(|only| only == metric) {
                let mut reading = self.reading(device, metric, held.sample);
                // A repeat is told as one, whatever the first was; else the graver fault names it.
                if held.metric.is_some() || reading.fault.is_none() {
                    reading.fault = Some(held.fault);
                }
                readings.push(reading);
            }
        }
    }

    /// A reading as its device makes it.
    fn reading(&self, device: u32, metric: usize, sample: u64) -> Reading {
        let value = self.fleet.value(device, metric, sample);
        let (time, mut fault) = self.told_time(device, sample);
        let parts = [device.into(), sample, metric as u64];
        let mut form = Form::Good;
        if time >= EARLIEST && fault != Some(Fault::Future) {
            for (bad, how) in [(Fault::Malformed, Form::Malformed), (Fault::Nan, Form::Nan)] {
                if form == Form::Good && self.faults.happens(bad, self.fleet.seed, parts) {
                    (form, fault) = (how, Some(bad));
                }
            }
        }
        Reading { device, metric, sample, time, value, form, fault }
    }

    /// The time that a device gives a sample, and what is wrong with it.
    fn told_time(&self, device: u32, sample: u64) -> (Timestamp, Option<Fault>) {
        let (seed, right) = (self.fleet.seed, self.fleet.time(device, sample));
        let chance = |what: u64, span: i64| below(hash(seed, &[what, device.into(), sample]), span.cast_unsigned()).cast_signed();
        if self.spell(Fault::ClockJump, device, sample) {
            let which = hash(seed, &[WHICH_JUMP, device.into(), sample / SPELL]);
            let told = match sample.checked_sub(SPELL) {
                Some(earlier) if which & 1 == 0 => self.fleet.time(device, earlier),
                _ => Timestamp(sample.cast_signed().saturating_mul(SECOND) % DAY - DAY),
            };
            return (told, Some(Fault::ClockJump));
        }
        if self.of_sample(Fault::Future, device, sample) {
            return (right.plus(DAY + chance(HOW_FAR, 29 * DAY)), Some(Fault::Future));
        }
        if self.of_sample(Fault::Late, device, sample) {
            return (right.plus(-60 * SECOND - chance(HOW_LATE, DAY - 60 * SECOND)), Some(Fault::Late));
        }
        (right, None)
    }

    fn of_sample(&self, fault: Fault, device: u32, sample: u64) -> bool {
        self.faults.happens(fault, self.fleet.seed, [device.into(), sample, u64::MAX])
    }

    fn spell(&self, fault: Fault, device: u32, sample: u64) -> bool {
        self.of_sample(fault, device, sample / SPELL)
    }
}
