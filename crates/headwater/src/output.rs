//! What the process says: data on standard output, messages on standard error.
//!
//! Owns: both streams, and what is done to foreign text before a terminal sees it. Does not know: what is said.
//! Invariant: a reader that goes away (`headwater readings | head`) ends a command quietly.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// A message for a person, as a line of standard error. Where that is closed nobody can be told.
pub(crate) fn message(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// The live line of a terminal: each takes the place of the one before. What else is written takes its place, too.
pub(crate) fn live(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "\r\x1b[2K{text}\r"));
    drop(stderr.flush());
}

/// Clears the live line.
pub(crate) fn end_live() {
    if messages_on_terminal() {
        live("");
    }
}

/// Standard output, buffered; the caller flushes.
pub(crate) fn data() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Whether messages are read on a terminal.
pub(crate) fn messages_on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether a failure only means that nobody reads any more.
pub(crate) fn is_broken_pipe(failure: &anyhow::Error) -> bool {
    failure.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Text from elsewhere without what could steer a terminal: control characters (ESC, C1, line ends) and the marks that
/// change the direction of writing become `U+FFFD`.
pub(crate) fn sanitised(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) {
        text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect::<String>().into()
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a character could steer a terminal or hide what stands there.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_replaced() {
        assert_eq!(sanitised("plant-a/press-7 °C"), "plant-a/press-7 °C");
        assert_eq!(sanitised("\u{1b}[31mred\u{9b}2J\r\n\u{202e}"), "\u{fffd}[31mred\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}");
    }
}
