//! Cuts a stream of bytes into rows.
//!
//! Owns: where a row ends: a quoted field of CSV and a quoted string of line protocol may hold line ends. Does not know: what
//! is in a row.
//!
//! Invariants: rows put together are the stream; memory is bounded however the stream is made ([`MAX_ROW_BYTES`]); rows end where
//! the server sees them end, so that a border between two bodies changes nothing. A row whose quotes are broken ends at its
//! first line end, as there: a stray quotation mark costs one line.

use super::line;
use crate::cli::Format;
use anyhow::{Context, bail};
use std::io::Read;

/// The largest row, with all line ends in it. The server takes bodies up to 8 MiB.
pub(super) const MAX_ROW_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;

/// The rows of a stream.
pub(super) struct Rows<R> {
    input: R,
    format: Format,
    /// What has been read; rows up to `at` have been given.
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    next_line: u64,
}

impl<R: Read> Rows<R> {
    pub(super) const fn new(input: R, format: Format) -> Self {
        Self { input, format, buffer: Vec::new(), at: 0, ended: false, next_line: 1 }
    }

    /// The number of the next line, from 1.
    pub(super) const fn next_line(&self) -> u64 {
        self.next_line
    }

    /// Whether there are no more rows.
    pub(super) const fn at_end(&self) -> bool {
        self.ended && self.at == self.buffer.len()
    }

    /// The next row with its line end; `None` at the end of the stream.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        let Some((length, n_lines)) = self.measure()? else { return Ok(None) };
        let start = self.at;
        self.at += length;
        self.next_line += n_lines;
        Ok(Some(&self.buffer[start..self.at]))
    }

    /// The bytes and lines of the next row.
    fn measure(&mut self) -> anyhow::Result<Option<(usize, u64)>> {
        let Some(first) = self.line_end(0)? else {
            if self.buffer.len() - self.at >= MAX_ROW_BYTES {
                bail!("line {} has more than {MAX_ROW_BYTES} bytes", self.next_line);
            }
            return Ok(None);
        };
        let (mut end, mut n_lines, mut state) = (first, 1, State::new(self.format));
        state.add(&self.buffer[self.at..self.at + first]);
        while state.is_open() {
            let Some(next) = self.line_end(end)? else { return Ok(Some((first, 1))) };
            state.add(&self.buffer[self.at + end..self.at + next]);
            (end, n_lines) = (next, n_lines + 1);
        }
        Ok(Some(if state.is_broken() { (first, 1) } else { (end, n_lines) }))
    }

    /// Where the line that begins `from` bytes into the row ends, its line end included; `None` where there is no line, or none
    /// that ends within the largest row.
    fn line_end(&mut self, from: usize) -> anyhow::Result<Option<usize>> {
        let mut searched = from;
        loop {
            let row = &self.buffer[self.at..];
            if let Some(found) = memchr::memchr(b'\n', &row[searched..]) {
                return Ok(Some(searched + found + 1));
            }
            searched = row.len();
            if self.ended {
                return Ok((searched > from).then_some(searched));
            }
            if searched >= MAX_ROW_BYTES {
                return Ok(None);
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> anyhow::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let read = Read::by_ref(&mut self.input).take(READ_BYTES as u64).read_to_end(&mut self.buffer).context("read the file")?;
        self.ended = read < READ_BYTES;
        Ok(())
    }
}

/// Whether the lines seen so far end a row.
enum State {
    /// Every line is a row.
    Plain,
    Csv(Quoting),
    Line(line::Scanner),
}

/// Where in a row of CSV the text is (RFC 4180).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quotation mark within a quoted field: the end of it, or the first of two.
    Closing,
    /// After that and a carriage return: only the line end can follow.
    ClosingCr,
    /// Text follows a closing quotation mark.
    Broken,
}

impl State {
    fn new(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv(Quoting::FieldStart),
            Format::Ndjson => Self::Plain,
            Format::Line => Self::Line(line::Scanner::default()),
        }
    }

    fn add(&mut self, line: &[u8]) {
        match self {
            Self::Plain => {}
            // Nearly every line: nothing is quoted.
            Self::Csv(Quoting::FieldStart) if memchr::memchr(b'"', line).is_none() => {}
            Self::Csv(quoting) => *quoting = line.iter().fold(*quoting, |quoting, byte| quoting.after(*byte)),
            Self::Line(scanner) => scanner.add(line),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Csv(quoting) => *quoting == Quoting::Quoted,
            Self::Line(scanner) => scanner.in_string(),
        }
    }

    fn is_broken(&self) -> bool {
        matches!(self, Self::Csv(Quoting::Broken))
    }
}

impl Quoting {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Broken, _) => Self::Broken,
            (Self::Quoted, b'"') => Self::Closing,
            (Self::Quoted, _) | (Self::FieldStart | Self::Closing, b'"') => Self::Quoted,
            (Self::FieldStart | Self::Unquoted | Self::Closing, b',') | (Self::Closing | Self::ClosingCr, b'\n') => Self::FieldStart,
            (Self::Closing, b'\r') => Self::ClosingCr,
            (Self::Closing | Self::ClosingCr, _) => Self::Broken,
            (Self::FieldStart | Self::Unquoted, _) => Self::Unquoted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[u8], format: Format) -> Vec<String> {
        let mut rows = Rows::new(text, format);
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            all.push(String::from_utf8(row.to_vec()).unwrap());
        }
        assert!(rows.at_end());
        all
    }

    #[test]
    fn quoted_fields_hold_line_ends() {
        assert_eq!(rows(b"a,\"b\nc\",d\r\ne,f\r\n", Format::Csv), ["a,\"b\nc\",d\r\n", "e,f\r\n"]);
        assert_eq!(rows(b"\"say \"\"x\ny\"\"\"\r\nz", Format::Csv), ["\"say \"\"x\ny\"\"\"\r\n", "z"]);
        assert_eq!(rows(b"a\"b,\"c\n\"\n", Format::Csv), ["a\"b,\"c\n\"\n"]);
    }

    #[test]
    fn a_stray_quotation_mark_costs_one_line() {
        assert_eq!(rows(b"a,\"b\nc,d\ne,f", Format::Csv), ["a,\"b\n", "c,d\n", "e,f"]);
        assert_eq!(rows(b"a,\"b\nc\"d,e\nf\n", Format::Csv), ["a,\"b\n", "c\"d,e\n", "f\n"]);
        assert_eq!(rows(b"a,\"b\"\rc\nd\n", Format::Csv), ["a,\"b\"\rc\n", "d\n"]);
        let long = format!("a,\"b\n{}", "c,d\n".repeat(MAX_ROW_BYTES / 2));
        assert_eq!(rows(long.as_bytes(), Format::Csv).len(), 1 + MAX_ROW_BYTES / 2);
    }

    #[test]
    fn a_line_that_does_not_end_is_named() {
        let text = format!("{{}}\n{{}}\n{}", " ".repeat(MAX_ROW_BYTES + READ_BYTES + 1));
        let mut rows = Rows::new(text.as_bytes(), Format::Ndjson);
        assert!(rows.next().unwrap().is_some());
        assert!(rows.next().unwrap().is_some());
        assert_eq!(rows.next().unwrap_err().to_string(), format!("line 3 has more than {MAX_ROW_BYTES} bytes"));
    }
}
