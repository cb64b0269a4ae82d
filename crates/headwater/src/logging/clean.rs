//! Lines of JSON without characters that a terminal obeys or a reader does not see.
//!
//! Owns: [`Clean`], which passes on what is written to it. Does not know: messages.
//! Invariants: what was JSON stays the same JSON: such characters can only stand inside of texts, and are escaped there; a line is
//! passed on in one piece.

use std::borrow::Cow;
use std::io::{self, Write};

/// Writes to another writer, line by line as it gets them.
pub(super) struct Clean<W>(pub(super) W);

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&escaped(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// serde escapes what is below the blank. The rest: DEL, C1 (which begins escape sequences too), and marks of direction.
fn escaped(line: &[u8]) -> Cow<'_, [u8]> {
    let is_suspect = |byte: &u8| matches!(byte, 0x7f | 0xc2 | 0xe2);
    if !line.iter().any(is_suspect) {
        return Cow::Borrowed(line);
    }
    let Ok(text) = str::from_utf8(line) else { return Cow::Borrowed(line) };
    let mut clean = String::with_capacity(line.len() + 16);
    for c in text.chars() {
        if crate::output::is_unsafe(c) && c != '\n' { clean.push_str(&format!("\\u{:04x}", u32::from(c))) } else { clean.push(c) }
    }
    Cow::Owned(clean.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_reads_as_it_was() {
        let evil = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{85}é°€ \r\n\u{2028}";
        let line = format!("{}\n", serde_json::json!({ "message": evil }));
        let mut out = Vec::new();
        Clean(&mut out).write_all(line.as_bytes()).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with("\"}\n") && !out.trim_end_matches('\n').chars().any(crate::output::is_unsafe), "{out:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["message"], evil);
    }

    #[test]
    fn a_harmless_line_is_passed_on_as_it_is() {
        for line in ["{\"message\":\"é € °\"}\n", "{}\n"] {
            assert_eq!(&*escaped(line.as_bytes()), line.as_bytes());
        }
    }
}
