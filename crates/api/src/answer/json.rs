//! JSON member by member; the writer of a row says what stands where.
//!
//! Owns: [`Json`]. Does not know: what is in a row.
//! Invariants: numbers are the shortest decimals that read as the same f64; what cannot be a number is null.

use super::{Out, Value, put_json};
use headwater_core::time::Timestamp;

/// JSON on its way into a text or a tag.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    out: Out<'a>,
    /// Whether the next member or item needs a comma before it.
    needs_comma: bool,
}

impl<'a> Json<'a> {
    /// An empty document.
    pub(crate) const fn on(out: Out<'a>) -> Self {
        Self { out, needs_comma: false }
    }

    /// Opens an object or a list.
    pub(crate) fn open(&mut self, bracket: u8) {
        match &mut self.out {
            Out::Text(text) => {
                comma(text, &mut self.needs_comma);
                text.push(bracket);
                self.needs_comma = false;
            }
            Out::Tag(tag) => tag.mark(bracket),
        }
    }

    /// Closes an object or a list.
    pub(crate) fn close(&mut self, bracket: u8) {
        match &mut self.out {
            Out::Text(text) => {
                text.push(bracket);
                self.needs_comma = true;
            }
            Out::Tag(tag) => tag.mark(bracket),
        }
    }

    /// The name of the next member.
    pub(crate) fn name(&mut self, name: &str) {
        self.value(name);
        if let Out::Text(text) = &mut self.out {
            text.push(b':');
            self.needs_comma = false;
        }
    }

    /// A value: the next member's or the next item.
    pub(crate) fn value<T: Value + ?Sized>(&mut self, value: &T) {
        match &mut self.out {
            Out::Text(text) => {
                comma(text, &mut self.needs_comma);
                put_json(text, value);
                self.needs_comma = true;
            }
            Out::Tag(tag) => value.note(tag),
        }
    }

    /// A member.
    pub(crate) fn member<T: Value + ?Sized>(&mut self, name: &str, value: &T) {
        self.name(name);
        self.value(value);
    }

    /// A member that is a time, which needs no escaping.
    pub(crate) fn time(&mut self, name: &str, time: Timestamp) {
        self.name(name);
        match &mut self.out {
            Out::Text(text) => {
                text.extend_from_slice(format!("\"{time}\"").as_bytes());
                self.needs_comma = true;
            }
            Out::Tag(tag) => tag.time(time),
        }
    }

    /// A member that is a time, or null.
    pub(crate) fn time_or_null(&mut self, name: &str, time: Option<Timestamp>) {
        match time {
            Some(time) => self.time(name, time),
            None => self.member(name, &None::<&str>),
        }
    }

    /// A member that is an object of tags.
    pub(crate) fn tags<'t>(&mut self, tags: impl Iterator<Item = (&'t str, Option<&'t str>)>) {
        self.name("tags");
        self.open(b'{');
        tags.for_each(|(name, value)| self.member(name, &value));
        self.close(b'}');
    }

    /// Closes the list `rows` and the document, with the cursor of the next page.
    pub(crate) fn end_of_rows(mut self, next: Option<&str>) {
        self.close(b']');
        self.member("next_cursor", &next);
        self.close(b'}');
        self.end();
    }

    /// Ends the document.
    pub(crate) fn end(self) {
        match self.out {
            Out::Text(text) => text.push(b'\n'),
            Out::Tag(tag) => tag.mark(b'\n'),
        }
    }
}

fn comma(text: &mut Vec<u8>, needed: &mut bool) {
    if std::mem::take(needed) {
        text.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_commas_where_they_belong() {
        let mut bytes = Vec::new();
        let mut json = Json::on(Out::Text(&mut bytes));
        json.open(b'{');
        json.time("from", Timestamp(0));
        json.name("rows");
        json.open(b'[');
        for value in [1.0, f64::NAN, 1e300] {
            json.open(b'{');
            json.member("v", &value);
            json.tags([("a\"", Some("1")), ("b", None)].into_iter());
            json.close(b'}');
        }
        json.end_of_rows(Some("x"));
        let tags = r#""tags":{"a\"":"1","b":null}"#;
        let rows = format!(r#"{{"v":1.0,{tags}}},{{"v":null,{tags}}},{{"v":1e+300,{tags}}}"#);
        let expected = format!("{{\"from\":\"1970-01-01T00:00:00Z\",\"rows\":[{rows}],\"next_cursor\":\"x\"}}\n");
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
