//! Entity tags: a hash over what an answer says, taken before it is written.
//!
//! Owns: [`Tag`] and the canonical form that is hashed. Does not know: what is in a row, how values look as text.
//!
//! Invariants: two answers of one form have one tag exactly where they have the same bytes, because both come from the same walk over the same
//! values, and every value has one form here and one as text (see [`super::Value`]). The form depends on no machine and no backend.
//!
//! Canonical form: a name of the format and its version, then items, each with its kind in front: names and texts with their length (eight
//! bytes, little-endian), numbers as the bits of an f64 or as a u64, times as an i64, brackets and ends of lines as themselves; last the
//! address of the next page.

use crate::params::Format;
use headwater_core::time::Timestamp;
use sha2::{Digest, Sha256};

/// Bytes that are hashed at a time: one by one would cost more than the hash.
const BLOCK: usize = 4_096;

/// What is hashed first. A program that writes the same values in another way must say another version here.
const fn form(format: Format) -> &'static str {
    match format {
        Format::Json => "headwater json 1",
        Format::Csv => "headwater csv 1",
    }
}

/// The tag of an answer as far as it has been walked over.
#[derive(Debug)]
pub(crate) struct Tag {
    hash: Sha256,
    pending: Vec<u8>,
}

impl Tag {
    /// The tag of an empty answer.
    pub(crate) fn new(format: Format) -> Self {
        let mut tag = Self { hash: Sha256::new(), pending: Vec::with_capacity(BLOCK + 64) };
        tag.text(form(format));
        tag
    }

    /// A bracket, the end of a line.
    pub(crate) fn mark(&mut self, mark: u8) {
        self.pending.push(mark);
    }

    /// A text or a name.
    pub(crate) fn text(&mut self, text: &str) {
        self.text_after("", text);
    }

    /// A text with another one before it.
    pub(crate) fn text_after(&mut self, before: &str, text: &str) {
        self.item(b's', ((before.len() + text.len()) as u64).to_le_bytes());
        self.pending.extend_from_slice(before.as_bytes());
        self.pending.extend_from_slice(text.as_bytes());
        self.flush(BLOCK);
    }

    /// A number.
    pub(crate) fn float(&mut self, number: f64) {
        self.item(b'f', number.to_bits().to_le_bytes());
    }

    /// A whole number.
    pub(crate) fn whole(&mut self, number: u64) {
        self.item(b'u', number.to_le_bytes());
    }

    /// A time.
    pub(crate) fn time(&mut self, time: Timestamp) {
        self.item(b't', time.0.to_le_bytes());
    }

    /// No value.
    pub(crate) fn null(&mut self) {
        self.pending.push(b'n');
    }

    /// The tag, of an answer whose next page is at `next`, in quotes.
    pub(crate) fn finish(mut self, next: Option<&str>) -> String {
        match next {
            Some(next) => self.text(next),
            None => self.null(),
        }
        self.flush(0);
        let hash = self.hash.finalize();
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let digits = hash[..16].iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        ['"'].into_iter().chain(digits).chain(['"']).collect()
    }

    fn item(&mut self, kind: u8, bytes: [u8; 8]) {
        self.pending.push(kind);
        self.pending.extend_from_slice(&bytes);
        self.flush(BLOCK);
    }

    /// Hashes what waits, if it is at least so much.
    fn flush(&mut self, least: usize) {
        if self.pending.len() >= least {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }
}
