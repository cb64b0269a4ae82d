//! CSV (RFC 4180: comma, CRLF, quotes where needed, UTF-8) cell by cell.
//!
//! Owns: [`Csv`]. Does not know: what is in a line.
//! Invariants: a column has cells of one kind; what cannot be a number is an empty cell.

use super::{Out, Value, put_json};
use headwater_core::time::Timestamp;

/// Whether cells are meant for a spreadsheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A text that a spreadsheet would take for a formula gets an apostrophe before it.
    Formulas,
    /// Texts stay as they are, so that they can be sent back.
    Nothing,
}

/// CSV on its way into a text or a tag.
#[derive(Debug)]
pub(crate) struct Csv<'a> {
    out: Out<'a>,
    guard: Guard,
    needs_comma: bool,
}

impl<'a> Csv<'a> {
    /// An empty document.
    pub(crate) const fn on(out: Out<'a>, guard: Guard) -> Self {
        Self { out, guard, needs_comma: false }
    }

    /// A cell with a text.
    pub(crate) fn text(&mut self, cell: &str) {
        let is_guarded = self.guard == Guard::Formulas && cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        match self.next() {
            Out::Text(text) => put_cell(text, is_guarded, cell),
            Out::Tag(tag) => tag.text_after(if is_guarded { "'" } else { "" }, cell),
        }
    }

    /// A cell with a number.
    pub(crate) fn number<T: Value>(&mut self, number: T) {
        match self.next() {
            Out::Text(text) => put_json(text, &number),
            Out::Tag(tag) => number.note(tag),
        }
    }

    /// A cell with a number, or an empty one.
    pub(crate) fn number_or_empty(&mut self, number: Option<f64>) {
        match number {
            Some(number) => self.number(number),
            None => self.empty(),
        }
    }

    /// A cell with a time.
    pub(crate) fn time(&mut self, time: Timestamp) {
        match self.next() {
            Out::Text(text) => text.extend_from_slice(time.to_string().as_bytes()),
            Out::Tag(tag) => tag.time(time),
        }
    }

    /// An empty cell.
    pub(crate) fn empty(&mut self) {
        self.text("");
    }

    /// Ends the line.
    pub(crate) fn end_line(&mut self) {
        self.needs_comma = false;
        match &mut self.out {
            Out::Text(text) => text.extend_from_slice(b"\r\n"),
            Out::Tag(tag) => tag.mark(b'\n'),
        }
    }

    /// Where the next cell goes.
    fn next(&mut self) -> &mut Out<'a> {
        let needs_comma = std::mem::replace(&mut self.needs_comma, true);
        if let Out::Text(text) = &mut self.out
            && needs_comma
        {
            text.push(b',');
        }
        &mut self.out
    }
}

fn put_cell(out: &mut Vec<u8>, is_guarded: bool, cell: &str) {
    let quotes = cell.contains([',', '"', '\r', '\n']) || cell.starts_with(' ') || cell.ends_with(' ');
    if quotes {
        out.push(b'"');
    }
    if is_guarded {
        out.push(b'\'');
    }
    for byte in cell.bytes() {
        out.push(byte);
        if byte == b'"' {
            out.push(byte);
        }
    }
    if quotes {
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_guarded() {
        let line = |guard| {
            let mut bytes = Vec::new();
            let mut csv = Csv::on(Out::Text(&mut bytes), guard);
            ["a", "a,b", "say \"x\"", "=1+2", "-4", "@x", " y", "2\n3"].iter().for_each(|text| csv.text(text));
            csv.empty();
            csv.number(-23.0);
            csv.end_line();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(line(Guard::Formulas), "a,\"a,b\",\"say \"\"x\"\"\",'=1+2,'-4,'@x,\" y\",\"2\n3\",,-23.0\r\n");
        assert_eq!(line(Guard::Nothing), "a,\"a,b\",\"say \"\"x\"\"\",=1+2,-4,@x,\" y\",\"2\n3\",,-23.0\r\n");
    }
}
