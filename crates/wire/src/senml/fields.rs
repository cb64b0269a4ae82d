//! The fields of one record, as raw JSON texts.
//!
//! Owns: the labels and what they are. Does not know: what the base fields of other records say.
//! Invariant: a record is read in one pass, whatever the order of its fields.

use crate::json::string;
use crate::sink::{Problem, cut, quoted};
use headwater_core::dead_letter::Reason;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    BaseName,
    BaseTime,
    BaseUnit,
    BaseValue,
    BaseVersion,
    Name,
    Time,
    Unit,
    Value,
    Text,
    Boolean,
    Data,
    Sum,
}

/// Every label with its field, in the order of [`Field`].
const LABELS: [(&str, Field); 13] = [
    ("bn", Field::BaseName),
    ("bt", Field::BaseTime),
    ("bu", Field::BaseUnit),
    ("bv", Field::BaseValue),
    ("bver", Field::BaseVersion),
    ("n", Field::Name),
    ("t", Field::Time),
    ("u", Field::Unit),
    ("v", Field::Value),
    ("vs", Field::Text),
    ("vb", Field::Boolean),
    ("vd", Field::Data),
    ("s", Field::Sum),
];

impl Field {
    fn of(label: &str) -> Option<Self> {
        LABELS.iter().find(|(known, _)| *known == label).map(|(_, field)| *field)
    }

    pub(super) const fn label(self) -> &'static str {
        LABELS[self as usize].0
    }
}

/// What a record says that it measured.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Measured<'a> {
    /// It has nothing but base fields.
    Nothing,
    /// A text, data, a sum, null.
    NoNumber,
    /// A raw JSON text where a number belongs, to be added to the base value.
    Number(&'a str),
    /// A raw JSON text where a boolean belongs.
    Boolean(&'a str),
    /// The base value, if there is one.
    BaseValue,
}

/// The fields of a record.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    raw: [Option<&'a str>; LABELS.len()],
    repeated: Option<Field>,
    /// A label that has to be understood and is not.
    unknown: Option<String>,
    /// Whether there are others than base fields.
    has_own: bool,
}

impl<'a> Fields<'a> {
    /// Reads the record that `text`, any JSON value, is.
    pub(super) fn read(&mut self, text: &'a str) -> Result<(), Problem> {
        if !text.starts_with('{') {
            return Err(Problem::malformed("a record must be an object"));
        }
        *self = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer.deserialize_map(&mut *self).and_then(|()| deserializer.end());
        read.map_err(|e| Problem::malformed(format!("the record cannot be read: {e}")))
    }

    /// The raw text of a field.
    pub(super) const fn get(&self, field: Field) -> Option<&'a str> {
        self.raw[field as usize]
    }

    /// A field that is a text, empty where it is not there.
    pub(super) fn text(&self, field: Field, reason: Reason) -> Result<Cow<'a, str>, Problem> {
        let no_text = || Problem::new(reason, format!("{:?} is not a text", field.label()));
        self.get(field).map_or(Ok(Cow::Borrowed("")), |raw| string(raw).ok_or_else(no_text))
    }

    /// The record's own unit; null is none.
    pub(super) fn unit(&self) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.get(Field::Unit) {
            None | Some("null") => Ok(None),
            Some(_) => self.text(Field::Unit, Reason::InvalidMetric).map(Some),
        }
    }

    /// Whether every field stands once and none has to be understood that is not.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if let Some(field) = self.repeated {
            return Err(Problem::malformed(format!("the field {:?} stands twice", field.label())));
        }
        match &self.unknown {
            Some(label) => Err(Problem::malformed(format!("the field {} must be understood and is not known here", quoted(label)))),
            None => Ok(()),
        }
    }

    /// The label of a field that holds for later records too, but cannot be relied on.
    pub(super) fn spoilt_base(&self) -> Option<&str> {
        let labels = [self.repeated.map(Field::label), self.unknown.as_deref()];
        labels.into_iter().flatten().find(|label| label.starts_with('b'))
    }

    /// What was measured.
    pub(super) fn measured(&self) -> Result<Measured<'a>, Problem> {
        let mut values = [Field::Value, Field::Boolean, Field::Text, Field::Data].into_iter().filter(|field| self.get(*field).is_some());
        match (values.next(), values.next()) {
            (Some(one), Some(other)) => {
                Err(Problem::malformed(format!("a record has one value, not both {:?} and {:?}", one.label(), other.label())))
            }
            (Some(field), None) => Ok(self.value(field)),
            (None, _) if self.get(Field::Sum).is_some() => Ok(Measured::NoNumber),
            (None, _) if self.has_own => Ok(Measured::BaseValue),
            (None, _) => Ok(Measured::Nothing),
        }
    }

    fn value(&self, field: Field) -> Measured<'a> {
        match (field, self.get(field)) {
            (_, None | Some("null")) => Measured::NoNumber,
            (Field::Value, Some(raw)) => Measured::Number(raw),
            (Field::Boolean, Some(raw)) => Measured::Boolean(raw),
            _ => Measured::NoNumber,
        }
    }
}

/// What a label is.
enum Label {
    Known(Field),
    /// To be ignored; whether it is a base field.
    Ignored {
        base: bool,
    },
    /// To be understood, and not known.
    Unknown(String),
}

struct LabelName;

impl<'de> DeserializeSeed<'de> for LabelName {
    type Value = Label;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Label, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for LabelName {
    type Value = Label;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }

    fn visit_str<E>(self, label: &str) -> Result<Label, E> {
        Ok(match Field::of(label) {
            Some(field) => Label::Known(field),
            None if label.ends_with('_') => Label::Unknown(cut(label, 64).to_owned()),
            None => Label::Ignored { base: label.starts_with('b') },
        })
    }
}

impl<'de> Visitor<'de> for &mut Fields<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(label) = map.next_key_seed(LabelName)? {
            match label {
                Label::Known(field) => {
                    self.has_own |= !field.label().starts_with('b');
                    if self.raw[field as usize].replace(map.next_value::<&'de RawValue>()?.get()).is_some() {
                        // A base field that stands twice costs more, so it is the one to remember.
                        let spoilt = self.repeated.filter(|field| field.label().starts_with('b'));
                        self.repeated = Some(spoilt.unwrap_or(field));
                    }
                }
                Label::Ignored { base } => {
                    self.has_own |= !base;
                    map.next_value::<IgnoredAny>()?;
                }
                Label::Unknown(label) => {
                    self.has_own = true;
                    let spoilt = self.unknown.take().filter(|label| label.starts_with('b'));
                    self.unknown = Some(spoilt.unwrap_or(label));
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}
