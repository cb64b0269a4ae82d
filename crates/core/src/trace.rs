//! Where work belongs: the context of a trace (W3C Trace Context), and spans that are told to whoever collects them.
//!
//! Owns: [`Context`] and its text, [`Span`], and the single meeting point of spans and their collector. Does not know: how spans are
//! sent anywhere; the binary installs a collector when it is built for that (feature `otlp`). Without one a span costs one atomic
//! load, and no context is carried anywhere.
//!
//! Invariants: a context exists only for what is sampled, so whoever has one carries it; a span is told once, when it is dropped;
//! nothing that is measured depends on whether anybody collects.

use crate::clock::{Clock, SystemClock};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Instant;

static COLLECTOR: OnceLock<Box<dyn Collector>> = OnceLock::new();

/// Takes spans that have ended.
pub trait Collector: Send + Sync {
    /// Whether the trace of this id is one of those that are kept, where nobody upstream has decided.
    fn samples(&self, trace_id: u128) -> bool;
    /// Takes a span. Must not wait.
    fn take(&self, span: Ended);
}

/// Installs what takes spans; the first call wins.
pub fn install(collector: Box<dyn Collector>) {
    COLLECTOR.get_or_init(|| collector);
}

/// Whether anybody takes spans.
pub fn is_collected() -> bool {
    COLLECTOR.get().is_some()
}

/// A place in a trace that is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Context {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Whoever sent it samples this trace.
    Sampled(Context),
    /// It is known and not sampled: nothing of it is kept here either.
    NotSampled,
}

impl Parent {
    /// Reads `version-traceid-spanid-flags`; `None` for what is no such text, which begins a trace of its own.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex =
            |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = text.trim().split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_whole = lower_hex(version, 2) && lower_hex(trace_id, 32) && lower_hex(span_id, 16) && lower_hex(flags, 2);
        // A later version may have more parts; `ff` is none.
        if !is_whole || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(if flags & 1 == 1 { Self::Sampled(Context { trace_id, span_id }) } else { Self::NotSampled })
    }
}

impl fmt::Display for Context {
    /// As a `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace_id, self.span_id)
    }
}

/// What a span is to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside.
    Internal,
    /// A request from elsewhere.
    Server,
    /// Something handed to a log.
    Producer,
    /// Something taken from a log.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text; the same few for all spans.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What was done; the same few names for all spans.
    pub name: &'static str,
    /// What it is to its neighbours.
    pub kind: Kind,
    /// Where it is.
    pub context: Context,
    /// The span that it is part of; 0 where it begins its trace.
    pub parent_id: u64,
    /// What else it came from.
    pub links: Vec<Context>,
    /// What is told about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// When it began and ended.
    pub began: Timestamp,
    /// When it ended; not before it began, whatever the clock does.
    pub ended: Timestamp,
    /// Whether it did not do what it was asked.
    pub failed: bool,
}

/// Work that is being done; told to the collector when it is dropped. One that nobody collects is nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    span: Ended,
    since: Instant,
}

impl Span {
    /// A span of work that somebody upstream may have begun. It decides about sampling; else the collector does.
    pub fn of_parent(name: &'static str, kind: Kind, parent: Option<Parent>) -> Self {
        match (COLLECTOR.get(), parent) {
            (None, _) | (_, Some(Parent::NotSampled)) => Self::default(),
            (Some(_), Some(Parent::Sampled(parent))) => Self::begin(name, kind, parent.trace_id, parent.span_id),
            (Some(collector), None) => {
                let trace_id = u128::from(random()) << 64 | u128::from(random());
                if collector.samples(trace_id) { Self::begin(name, kind, trace_id, 0) } else { Self::default() }
            }
        }
    }

    /// A part of the work at `parent`; nothing where there is none.
    pub fn child(name: &'static str, kind: Kind, parent: Option<Context>) -> Self {
        match parent {
            Some(parent) if is_collected() => Self::begin(name, kind, parent.trace_id, parent.span_id),
            _ => Self::default(),
        }
    }

    /// Work on what came from several traces, in a trace of its own; nothing where it came from none.
    pub fn linked(name: &'static str, kind: Kind, links: &[Context]) -> Self {
        if links.is_empty() || !is_collected() {
            return Self::default();
        }
        let mut span = Self::begin(name, kind, u128::from(random()) << 64 | u128::from(random()), 0);
        if let Some(open) = &mut span.0 {
            open.span.links = links.to_vec();
        }
        span
    }

    fn begin(name: &'static str, kind: Kind, trace_id: u128, parent_id: u64) -> Self {
        let (began, context) = (SystemClock.now(), Context { trace_id, span_id: random() });
        let span = Ended { name, kind, context, parent_id, links: Vec::new(), attributes: Vec::new(), began, ended: began, failed: false };
        Self(Some(Box::new(Open { span, since: Instant::now() })))
    }

    /// Where it is, where it is anything.
    pub fn context(&self) -> Option<Context> {
        self.0.as_ref().map(|open| open.span.context)
    }

    /// Tells something about it. No ids of devices, nothing of bodies or tokens.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.span.attributes.push((name, value.into()));
        }
    }

    /// Says that it did not do what it was asked.
    pub fn fail(&mut self) {
        if let Some(open) = &mut self.0 {
            open.span.failed = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(open), Some(collector)) = (self.0.take(), COLLECTOR.get()) else { return };
        let took = i64::try_from(open.since.elapsed().as_micros()).unwrap_or(i64::MAX);
        let mut span = open.span;
        span.ended = span.began.plus(took);
        collector.take(span);
    }
}

/// 64 bits that nobody else has; never 0. Not for secrets.
fn random() -> u64 {
    // Every `RandomState` has keys of its own.
    RandomState::new().hash_one(()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_it_is_written() {
        let Some(Parent::Sampled(context)) = Parent::parse(TEXT) else { panic!("it is sampled") };
        assert_eq!(context.to_string(), TEXT);
        assert_eq!(Parent::parse(&TEXT.replace("-01", "-00")), Some(Parent::NotSampled));
        assert_eq!(Parent::parse(&format!("{}-more", TEXT.replacen("00", "cc", 1))), Some(Parent::Sampled(context)), "of a later version");
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zero_trace = TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = TEXT.replace("00f067aa0ba902b7", &"0".repeat(16));
        let cases =
            [zero_trace, zero_span, TEXT.to_uppercase(), format!("{TEXT}-x"), TEXT.replacen("00", "ff", 1), String::new(), "é".repeat(55)];
        for text in cases {
            assert_eq!(Parent::parse(&text), None, "{text}");
        }
        for at in 0..TEXT.len() {
            assert_eq!(Parent::parse(&TEXT[..at]), None, "cut");
        }
    }

    #[test]
    fn without_a_collector_a_span_is_nothing() {
        let mut span = Span::of_parent("request", Kind::Server, Parent::parse(TEXT));
        span.set("n", 1usize);
        span.fail();
        assert!(span.context().is_none() && !is_collected());
        assert!(Span::linked("commit", Kind::Consumer, &[Context { trace_id: 1, span_id: 1 }]).context().is_none());
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<u64> = (0..10_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
