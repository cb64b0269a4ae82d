//! One dead letter, as the API gives it.
//!
//! Owns: its bytes, and what they are called on the way back. Does not know: how it is shown.

use super::PATH;
use crate::client::Client;
use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// What commands need to know of a letter.
#[derive(Debug, Deserialize)]
pub(super) struct Letter {
    pub(super) format: String,
    text: Option<String>,
    bytes_base64: Option<String>,
}

/// The path of a letter. An id is nothing but what a UUID holds, so that no other path can be asked.
pub(super) fn path(id: &str) -> anyhow::Result<String> {
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_plain { Ok(format!("{PATH}/{id}")) } else { bail!("`{}` is no id of a dead letter", crate::output::sanitised(id)) }
}

/// A letter, and the JSON that it came as.
pub(super) fn fetch(client: &mut Client, id: &str) -> anyhow::Result<(Letter, Vec<u8>)> {
    let body = client.get(&path(id)?, &[])?.succeeded()?.body;
    Ok((serde_json::from_slice(&body).context("read the server's answer")?, body))
}

impl Letter {
    /// The original bytes; none where they were discarded.
    pub(super) fn bytes(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match (&self.text, &self.bytes_base64) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded).map(Some).context("read the letter's bytes"),
            (None, None) => Ok(None),
        }
    }

    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// What `Content-Type` says of such bytes, and how a file of them ends.
    pub(super) fn kind(&self) -> Option<(&'static str, &'static str)> {
        Some(match self.format.split_once('+').map_or(self.format.as_str(), |(name, _)| name) {
            "json" => ("application/json", ".json"),
            "ndjson" => ("application/x-ndjson", ".ndjson"),
            "csv" => ("text/csv", ".csv"),
            "line" => ("text/plain", ".line"),
            "senml" => ("application/senml+json", ".json"),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(json: &str) -> Letter {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn bytes_come_back_text_or_not() {
        assert_eq!(letter(r#"{"format":"json","text":"{"}"#).bytes().unwrap(), Some(b"{".to_vec()));
        assert_eq!(letter(r#"{"format":"json+gzip","bytes_base64":"H4v/"}"#).bytes().unwrap(), Some(vec![0x1f, 0x8b, 0xff]));
        assert_eq!(letter(r#"{"format":"json"}"#).bytes().unwrap(), None);
    }

    #[test]
    fn a_format_says_what_its_bytes_are() {
        for (format, kind) in [
            ("csv+header", Some("text/csv")),
            ("json+gzip", Some("application/json")),
            ("record", None),
            ("senml+base", Some("application/senml+json")),
        ] {
            assert_eq!(letter(&format!(r#"{{"format":"{format}"}}"#)).kind().map(|(kind, _)| kind), kind, "{format}");
        }
    }

    #[test]
    fn nothing_but_an_id_becomes_a_path() {
        assert_eq!(path("0193-ab").unwrap(), "/v1/dead-letters/0193-ab");
        for id in ["", "a/../b", "x", "0193?limit=1"] {
            assert!(path(id).is_err(), "{id}");
        }
    }
}
