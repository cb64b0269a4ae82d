//! The pages of a list, one after the other.
//!
//! Owns: the cursor, and reading a page without changing a digit of it. Invariant: one page is in memory at a time.

use crate::client::Client;
use anyhow::Context;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON object whose members keep their order and their text.
#[derive(Debug, Default)]
pub(crate) struct Members(pub(crate) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A page of JSON.
#[derive(Debug)]
pub(crate) struct Page {
    /// Members other than rows and cursor.
    pub(crate) head: Members,
    /// The rows as they were sent.
    pub(crate) rows: Vec<Box<RawValue>>,
    /// Where it goes on.
    pub(crate) next_cursor: Option<String>,
}

impl Page {
    pub(crate) fn read(body: &[u8]) -> anyhow::Result<Self> {
        let mut page = Self { head: Members::default(), rows: Vec::new(), next_cursor: None };
        for (name, value) in serde_json::from_slice::<Members>(body)?.0 {
            match name.as_str() {
                "rows" => page.rows = serde_json::from_str(value.get())?,
                "next_cursor" => page.next_cursor = serde_json::from_str(value.get())?,
                _ => page.head.0.push((name, value)),
            }
        }
        Ok(page)
    }
}

/// A question and how far it has been answered.
pub(crate) struct Pages<'c> {
    client: &'c mut Client,
    path: &'c str,
    parameters: Vec<(String, String)>,
    /// Whether one page is all that is wanted.
    one: bool,
    next: Next,
}

/// What to ask for next.
enum Next {
    First,
    Cursor(String),
    Nothing,
}

impl<'c> Pages<'c> {
    /// All pages; with a `limit` one page of so many rows.
    pub(crate) fn new(client: &'c mut Client, path: &'c str, mut parameters: Vec<(String, String)>, limit: Option<u64>) -> Self {
        parameters.extend(limit.map(|limit| ("limit".to_owned(), limit.to_string())));
        Self { client, path, parameters, one: limit.is_some(), next: Next::First }
    }

    /// The next page.
    pub(crate) fn next_page(&mut self) -> anyhow::Result<Option<Page>> {
        let mut parameters = self.parameters.clone();
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => return Ok(None),
            Next::First => {}
            Next::Cursor(cursor) => parameters.push(("cursor".to_owned(), cursor)),
        }
        let answer = self.client.get(self.path, &parameters)?.succeeded()?;
        let page = Page::read(&answer.body).context("read the server's answer")?;
        if let Some(cursor) = page.next_cursor.clone().filter(|_| !self.one) {
            self.next = Next::Cursor(cursor);
        }
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_every_digit_and_the_order_of_members() {
        let page = Page::read(br#"{"to": "b", "from": "a", "rows": [{"z": 0.10000000000000001, "a": 1e3}], "next_cursor": "c"}"#).unwrap();
        assert_eq!(page.head.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["to", "from"]);
        assert_eq!(page.rows[0].get(), r#"{"z": 0.10000000000000001, "a": 1e3}"#);
        assert_eq!(page.next_cursor.as_deref(), Some("c"));
    }

    #[test]
    fn an_answer_that_is_no_page_is_refused() {
        for body in ["", "[]", "{\"rows\": 1}", "<html>"] {
            assert!(Page::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
