//! Cuts a stream of rows into request bodies.
//!
//! Owns: the size of a body, the repeated header, and which line of the file a place in a body is. Does not know: where a row
//! ends ([`super::rows`] does), whether it is any good.
//!
//! Invariant: the bodies without their repeated headers, put together, are the file (but for stretches of empty lines).

use super::line;
use super::rows::Rows;
use crate::cli::Format;
use std::io::Read;

/// How large a body may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Rows in it.
    n_rows: u64,
    /// It ends with the row that reaches this size.
    n_bytes: usize,
}

/// As many rows as the gateway was measured with.
const LIMITS: Limits = Limits { n_rows: 5_000, n_bytes: 1 << 20 };

/// One request's body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// What to send.
    pub(super) body: Vec<u8>,
    /// The lines of the file that its rows begin and end with.
    pub(super) lines: (u64, u64),
    /// Lines that the header takes in the body.
    header_lines: u64,
    /// Rows that are not empty.
    n_rows: u64,
    /// For formats whose items are counted: the line of each.
    items: Vec<u64>,
    /// For line protocol: the fields in it, and those of them that are strings.
    pub(super) fields: line::Fields,
}

impl Chunk {
    /// The line of the file that is line `line` of the body, both counted from 1.
    pub(super) const fn line_of(&self, line: u64) -> u64 {
        match line.checked_sub(self.header_lines) {
            Some(0) | None => line,
            Some(below) => self.lines.0 + below - 1,
        }
    }

    /// The line of the file with item `index` of the body, counted from 0.
    pub(super) fn line_of_item(&self, index: u64) -> Option<u64> {
        self.items.get(usize::try_from(index).ok()?).copied()
    }
}

/// The bodies of a file.
pub(super) struct Chunks<R> {
    rows: Rows<R>,
    format: Format,
    limits: Limits,
    header: Option<Header>,
}

#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    lines: u64,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(input: R, format: Format) -> Self {
        Self { rows: Rows::new(input, format), format, limits: LIMITS, header: None }
    }

    fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        self.read_header()?;
        loop {
            let chunk = self.cut()?;
            if chunk.n_rows > 0 {
                return Ok(Some(chunk));
            }
            if self.rows.at_end() {
                return Ok(None);
            }
        }
    }

    fn cut(&mut self) -> anyhow::Result<Chunk> {
        let (header, header_lines) = self.header.as_ref().map(|header| (header.bytes.clone(), header.lines)).unwrap_or_default();
        let first = self.rows.next_line();
        let mut chunk = Chunk { body: header, header_lines, lines: (first, first), ..Chunk::default() };
        let (limit, mut n_rows) = (chunk.body.len() + self.limits.n_bytes, 0);
        while n_rows < self.limits.n_rows && chunk.body.len() < limit {
            let line = self.rows.next_line();
            let Some(row) = self.rows.next()? else { break };
            chunk.body.extend_from_slice(row);
            chunk.look_at(self.format, line, row);
            chunk.lines.1 = self.rows.next_line() - 1;
            n_rows += 1;
        }
        Ok(chunk)
    }

    /// The first row of a CSV that is not empty, with what comes before it.
    fn read_header(&mut self) -> anyhow::Result<()> {
        if self.format != Format::Csv || self.header.is_some() {
            return Ok(());
        }
        let mut header = Header::default();
        while without_bom(&header.bytes).iter().all(|byte| b"\r\n".contains(byte)) {
            let Some(row) = self.rows.next()? else { break };
            header.bytes.extend_from_slice(row);
        }
        header.lines = self.rows.next_line() - 1;
        if !header.bytes.is_empty() && !header.bytes.ends_with(b"\n") {
            header.bytes.push(b'\n');
        }
        self.header = Some(header);
        Ok(())
    }
}

impl Chunk {
    /// What must be known of a row for the report.
    fn look_at(&mut self, format: Format, line: u64, row: &[u8]) {
        let empty = match format {
            Format::Csv => matches!(row, b"\n" | b"\r\n"),
            Format::Ndjson => without_bom(row).trim_ascii().is_empty(),
            Format::Line => line::is_empty(row),
        };
        if empty {
            return;
        }
        self.n_rows += 1;
        match format {
            Format::Csv => {}
            Format::Ndjson => self.items.push(line),
            Format::Line => self.fields.add(line::fields(row)),
        }
    }
}

impl<R: Read> Iterator for Chunks<R> {
    type Item = anyhow::Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
