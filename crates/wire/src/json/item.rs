//! One JSON object to its readings.
//!
//! Owns: the two forms of an item, its members, their types. Does not know: what surrounds the item.
//! Invariant: an item is read in one pass, whatever the order of its members; nothing is kept before all of it was read.

use crate::sink::{self, Item, Problem, Shared, Sink};
use crate::{Context, Decoded, Place, number, time};
use headwater_core::dead_letter::Reason;
use headwater_core::time::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Turns items of one body into readings; holds what is reused from item to item.
pub(crate) struct Items<'a, 'c> {
    body: &'a [u8],
    sink: Sink<'c>,
    members: Members<'a>,
    tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a, 'c> Items<'a, 'c> {
    /// `body` is what spans are counted in; every item must be a part of it.
    pub(crate) fn new(body: &'a [u8], context: &'c Context<'c>) -> Self {
        let members = Members { most: context.max_metrics, ..Members::default() };
        Self { body, sink: Sink::new(context, body.len()), members, tags: Vec::new() }
    }

    pub(crate) fn finish(self) -> Decoded {
        self.sink.finish()
    }

    /// Reads one item of bytes that nobody has looked at.
    pub(crate) fn line(&mut self, line: &'a [u8], place: Place) {
        match std::str::from_utf8(line) {
            Ok(text) => self.item(text, place),
            Err(_) => {
                let item = Item { place, span: self.span(line) };
                self.sink.refuse(&item, Problem::malformed("the line is not UTF-8"), None, 1);
            }
        }
    }

    fn span(&self, part: &'a [u8]) -> Range<usize> {
        super::span(self.body, part)
    }

    /// Reads one item: the text of any JSON value, or one that claims to be.
    pub(crate) fn item(&mut self, text: &'a str, place: Place) {
        let item = Item { place, span: self.span(text.as_bytes()) };
        if let Err(problem) = self.members.read(text) {
            return self.sink.refuse(&item, problem, None, 1);
        }
        self.sink.skip(self.members.n_nulls);
        let device = self.members.device.map(string);
        let result = self.readings(&item, device.as_ref());
        if let Err(problem) = result {
            let named = device.as_ref().map_or(self.sink.context.own_device, |text| text.as_deref());
            self.sink.refuse(&item, problem, named, self.members.n_metrics.max(1));
        }
    }

    fn readings(&mut self, item: &Item, device: Option<&Option<Cow<'a, str>>>) -> Result<(), Problem> {
        self.members.check_form()?;
        let device = match device {
            Some(Some(text)) => text,
            Some(None) => return Err(Problem::new(Reason::InvalidDevice, "\"device\" is not a text")),
            None => self.sink.context.own_device.ok_or_else(sink::no_device)?,
        };
        self.sink.check_device(device)?;
        read_tags(self.members.tags, &mut self.tags)?;
        let tags = || self.tags.iter().map(|(name, value)| (&**name, &**value));
        Sink::check_tags(tags())?;
        let time = match self.members.ts.or(self.members.time) {
            Some(raw) => self.sink.check_time(read_time(raw)?)?,
            None => self.sink.context.received_at.micros(),
        };
        let unit = self.members.unit()?;
        let unit = unit.as_deref().map(Sink::check_unit).transpose()?.flatten();
        self.sink.check_metrics(self.members.n_metrics)?;
        let shared = Shared { device, time, unit };
        for (metric, value) in &self.members.metrics {
            match read_value(value) {
                Ok(value) => self.sink.reading(item, &shared, metric, tags(), value),
                Err(what) => self.sink.refuse_metric(item, sink::not_numeric(metric, what), Some(shared.device)),
            }
        }
        Ok(())
    }
}

/// The members of an item as raw JSON texts, and its metrics.
#[derive(Default)]
struct Members<'a> {
    device: Option<&'a str>,
    ts: Option<&'a str>,
    time: Option<&'a str>,
    metric: Option<&'a str>,
    value: Option<&'a str>,
    unit: Option<&'a str>,
    tags: Option<&'a str>,
    wide: bool,
    repeated: Option<&'static str>,
    /// Metrics that are not null: name and raw value, no more than `most`; all are counted.
    metrics: Vec<(Cow<'a, str>, &'a str)>,
    most: usize,
    n_metrics: u64,
    n_nulls: u64,
}

impl<'a> Members<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), Problem> {
        if !text.starts_with('{') {
            return Err(Problem::malformed("an item must be an object"));
        }
        self.clear();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer.deserialize_map(&mut *self).and_then(|()| deserializer.end());
        read.map_err(|e| Problem::malformed(format!("the item cannot be read: {e}")))?;
        self.settle_long_form();
        Ok(())
    }

    fn clear(&mut self) {
        let mut metrics = std::mem::take(&mut self.metrics);
        metrics.clear();
        *self = Self { metrics, most: self.most, ..Self::default() };
    }

    fn metric(&mut self, name: Cow<'a, str>, value: &'a str) {
        if value == "null" {
            self.n_nulls += 1;
            return;
        }
        self.n_metrics += 1;
        if self.metrics.len() < self.most {
            self.metrics.push((name, value));
        }
    }

    /// The long form is a wide one with one metric.
    fn settle_long_form(&mut self) {
        if let (false, Some(metric), Some(value)) = (self.wide, self.metric, self.value) {
            self.metric(string(metric).unwrap_or_default(), value);
        }
    }

    /// Whether the members make exactly one of the two forms.
    fn check_form(&self) -> Result<(), Problem> {
        if let Some(name) = self.repeated {
            return Err(Problem::malformed(format!("the member {name:?} stands twice")));
        }
        match (self.wide, self.metric, self.value) {
            (true, None, None) => Ok(()),
            (false, Some(metric), Some(_)) if metric.starts_with('"') && string(metric).is_some() => Ok(()),
            (false, Some(_), Some(_)) => Err(Problem::new(Reason::InvalidMetric, "\"metric\" is not a text")),
            (true, Some(_), _) => Err(Problem::malformed("an item has either \"metrics\" or \"metric\", not both")),
            (true, None, Some(_)) => Err(Problem::malformed("\"value\" belongs to \"metric\", not to \"metrics\"")),
            (false, Some(_), None) => Err(Problem::malformed("\"metric\" without \"value\"")),
            (false, None, Some(_)) => Err(Problem::malformed("\"value\" without \"metric\"")),
            (false, None, None) => Err(Problem::malformed("neither \"metrics\" nor \"metric\" and \"value\"")),
        }
    }

    fn unit(&self) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.unit {
            None | Some("null") => Ok(None),
            Some(raw) => string(raw).map(Some).ok_or_else(|| Problem::new(Reason::InvalidMetric, "\"unit\" is not a text")),
        }
    }
}

/// The members that mean something here.
#[derive(Clone, Copy)]
enum Member {
    Device,
    Ts,
    Time,
    Metric,
    Value,
    Unit,
    Tags,
    Metrics,
    Other,
}

struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(match name {
            "device" => Member::Device,
            "ts" => Member::Ts,
            "time" => Member::Time,
            "metric" => Member::Metric,
            "value" => Member::Value,
            "unit" => Member::Unit,
            "tags" => Member::Tags,
            "metrics" => Member::Metrics,
            _ => Member::Other,
        })
    }
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key_seed(MemberName)? {
            let (slot, name) = match member {
                Member::Device => (&mut self.device, "device"),
                Member::Ts => (&mut self.ts, "ts"),
                Member::Time => (&mut self.time, "time"),
                Member::Metric => (&mut self.metric, "metric"),
                Member::Value => (&mut self.value, "value"),
                Member::Unit => (&mut self.unit, "unit"),
                Member::Tags => (&mut self.tags, "tags"),
                Member::Metrics => {
                    if std::mem::replace(&mut self.wide, true) {
                        self.repeated = Some("metrics");
                    }
                    map.next_value_seed(Metrics(self))?;
                    continue;
                }
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if slot.replace(map.next_value::<&'de RawValue>()?.get()).is_some() {
                self.repeated = Some(name);
            }
        }
        Ok(())
    }
}

/// The object under `metrics`.
struct Metrics<'m, 'a>(&'m mut Members<'a>);

impl<'de> DeserializeSeed<'de> for Metrics<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metrics<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"metrics\" to be an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            self.0.metric(name, map.next_value::<&'de RawValue>()?.get());
        }
        Ok(())
    }
}

/// A name of the sender's choice, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Reads the object under `tags` into `tags`, sorted by name.
fn read_tags<'a>(raw: Option<&'a str>, tags: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<(), Problem> {
    tags.clear();
    let Some(raw) = raw else {
        return Ok(());
    };
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let read = deserializer.deserialize_map(Tags(tags));
    read.map_err(|_| Problem::new(Reason::InvalidTags, "\"tags\" is not an object of texts"))?;
    tags.sort_unstable();
    match tags.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Problem::new(Reason::InvalidTags, format!("the tag {} stands twice", sink::quoted(&pair[0].0)))),
        None => Ok(()),
    }
}

struct Tags<'t, 'a>(&'t mut Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Visitor<'de> for Tags<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let tag = (name, map.next_value_seed(Name)?);
            if self.0.len() < sink::KEPT_TAGS {
                self.0.push(tag);
            }
        }
        Ok(())
    }
}

fn read_time(raw: &str) -> Result<Timestamp, Problem> {
    let time = match string(raw) {
        Some(text) => time::parse_rfc3339(&text),
        None => time::from_decimal(raw),
    };
    time.ok_or_else(|| sink::no_time(string(raw).as_deref().unwrap_or(raw)))
}

/// The number that a raw value is (infinite beyond f64), or what it is instead.
pub(crate) fn read_value(raw: &str) -> Result<f64, &'static str> {
    match raw.as_bytes().first() {
        Some(b't') => Ok(1.0),
        Some(b'f') => Ok(0.0),
        Some(b'"') => Err("a text"),
        Some(b'[') => Err("an array"),
        Some(b'{') => Err("an object"),
        _ => number::decimal(raw).ok_or("something else"),
    }
}

/// The text that a raw JSON string is; `None` where it is no string, or has an escape that stands for no character.
pub(crate) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}
