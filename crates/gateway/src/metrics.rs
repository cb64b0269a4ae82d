//! What the gateway counts: bytes and readings by format, the clock's steps, and the heartbeat that it sends.
//!
//! Owns: [`Metrics`]. Does not know: who scrapes.
//! Invariant: a reading counts once its fate is durable, so `received = accepted + skipped + rejected` holds at every instant; a
//! body that was answered 503 counts when it is sent again.

use crate::content::Format;
use headwater_core::dead_letter::Reason;
use headwater_core::metrics::{Counter, Gauge, Registry};
use headwater_core::time::{SECOND, Timestamp};
use headwater_wire::Refused;

/// The reasons that a gateway can give.
const REASONS: [Reason; 11] = [
    Reason::Malformed,
    Reason::InvalidDevice,
    Reason::InvalidMetric,
    Reason::InvalidTags,
    Reason::InvalidTimestamp,
    Reason::TimestampTooFarAhead,
    Reason::TimestampTooOld,
    Reason::NotFinite,
    Reason::NotNumeric,
    Reason::TooManyMetrics,
    Reason::ForbiddenDevice,
];

/// The handles of one format.
#[derive(Debug, Clone)]
struct Protocol {
    bytes: Counter,
    received: Counter,
    accepted: Counter,
    skipped: Counter,
    rejected: [Counter; REASONS.len()],
}

impl Protocol {
    fn new(registry: &mut Registry, format: Format) -> Self {
        let protocol = ("protocol", format.as_str());
        let rejected = "Readings that were refused and kept as dead letters";
        Self {
            bytes: registry.counter_of("headwater_gateway_received_bytes_total", "Bytes of bodies, as they were sent", &[protocol]),
            received: registry.counter_of(
                "headwater_gateway_readings_received_total",
                "Readings in bodies whose fate is durable: accepted, skipped and rejected",
                &[protocol],
            ),
            accepted: registry.counter_of(
                "headwater_gateway_readings_accepted_total",
                "Readings that are durable in the log, repeats included",
                &[protocol],
            ),
            skipped: registry.counter_of(
                "headwater_gateway_readings_skipped_total",
                "Values that are no readings: null, empty cells, texts of line protocol",
                &[protocol],
            ),
            rejected: REASONS.map(|reason| {
                registry.counter_of("headwater_gateway_readings_rejected_total", rejected, &[protocol, ("reason", reason.as_str())])
            }),
        }
    }
}

/// The role's handles.
#[derive(Debug, Clone)]
pub struct Metrics {
    protocols: [Protocol; Format::ALL.len()],
    steps_back: Counter,
    sent: Gauge,
}

impl Metrics {
    /// Makes the handles.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            protocols: Format::ALL.map(|format| Protocol::new(registry, format)),
            steps_back: registry
                .counter("headwater_clock_steps_back_total", "Steps back by a second or more that the gateway saw the clock make"),
            sent: registry.heartbeat("sent"),
        }
    }

    /// A body has come.
    pub(crate) fn body(&self, format: Format, bytes: usize) {
        self.of(format).bytes.inc_by(bytes as u64);
    }

    /// What became of a body's readings is durable.
    pub(crate) fn settled(&self, format: Format, accepted: u64, skipped: u64, rejected: &Rejected) {
        let of = self.of(format);
        of.received.inc_by(accepted + skipped + rejected.0.iter().sum::<u64>());
        of.accepted.inc_by(accepted);
        of.skipped.inc_by(skipped);
        for (counter, n) in of.rejected.iter().zip(rejected.0).filter(|(_, n)| *n > 0) {
            counter.inc_by(n);
        }
    }

    pub(crate) fn stepped_back(&self) {
        self.steps_back.inc();
    }

    /// A heartbeat is durable in the log.
    pub(crate) fn sent(&self, at: Timestamp) {
        self.sent.set(at.micros() as f64 / SECOND as f64);
    }

    fn of(&self, format: Format) -> &Protocol {
        &self.protocols[format as usize]
    }
}

impl Default for Metrics {
    /// Counted for nobody.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// Rejected readings, by reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rejected([u64; REASONS.len()]);

impl Rejected {
    /// Those of a body whose items were refused one by one.
    pub(crate) fn of(refused: &[Refused]) -> Self {
        let mut counts = Self::default();
        refused.iter().for_each(|refused| counts.add(refused.reason, refused.count));
        counts
    }

    /// A body that cannot be read: one thing, malformed.
    pub(crate) fn whole() -> Self {
        let mut counts = Self::default();
        counts.add(Reason::Malformed, 1);
        counts
    }

    fn add(&mut self, reason: Reason, n: u64) {
        // Another reason cannot come from a decoder; were one to, the sum would still be right.
        let place = REASONS.iter().position(|known| *known == reason).unwrap_or_default();
        self.0[place] += n;
    }
}
