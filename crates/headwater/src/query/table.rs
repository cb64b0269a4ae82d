//! Columns for people.
//!
//! Owns: widths, alignment, and what a value looks like. Does not know: which columns there are.
//! Invariant: nothing that came from a server reaches the terminal unsanitised.

use super::pages::{Members, Pages};
use crate::output;
use anyhow::Context;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Write;

const GAP: &str = "  ";

/// Prints all pages under one head; a later page may be wider, never narrower.
pub(super) fn print(pages: &mut Pages<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    print_as(pages, |row| row, out)
}

/// Prints all pages, of each row what `shape` makes of it.
pub(crate) fn print_as(pages: &mut Pages<'_>, shape: impl Fn(Members) -> Members, out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::default();
    while let Some(page) = pages.next_page()? {
        table.page(&page.rows, &shape, out)?;
    }
    if table.columns.is_empty() {
        output::message("no rows");
    }
    Ok(())
}

/// A table that is being printed.
#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
}

struct Column {
    name: String,
    width: usize,
    /// Whether its first value was a number: those line up at their end.
    numeric: bool,
}

impl Table {
    /// Prints some more rows.
    pub(crate) fn page(&mut self, rows: &[Box<RawValue>], shape: impl Fn(Members) -> Members, out: &mut impl Write) -> anyhow::Result<()> {
        let rows = rows.iter().map(|row| serde_json::from_str::<Members>(row.get()).map(&shape).context("read a row"));
        let rows: Vec<Members> = rows.collect::<anyhow::Result<_>>()?;
        let is_first = self.columns.is_empty();
        if let (true, Some(row)) = (is_first, rows.first()) {
            self.columns = row.0.iter().map(|(name, value)| Column::new(name, value)).collect();
        }
        let rows: Vec<Vec<String>> = rows.iter().map(|row| self.cells(row)).collect();
        for row in &rows {
            for (column, cell) in self.columns.iter_mut().zip(row) {
                column.width = column.width.max(cell.chars().count());
            }
        }
        if is_first && !self.columns.is_empty() {
            self.line(&self.columns.iter().map(|column| column.name.to_uppercase()).collect::<Vec<_>>(), out)?;
        }
        rows.iter().try_for_each(|row| self.line(row, out))
    }

    /// The row's values in the order of the columns.
    fn cells(&self, row: &Members) -> Vec<String> {
        let of = |(i, column): (usize, &Column)| {
            let member = row.0.get(i).filter(|(name, _)| *name == column.name);
            let member = member.or_else(|| row.0.iter().find(|(name, _)| *name == column.name));
            member.map(|(_, value)| shown(value)).unwrap_or_default()
        };
        self.columns.iter().enumerate().map(of).collect()
    }

    fn line(&self, cells: &[String], out: &mut impl Write) -> anyhow::Result<()> {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let padding = " ".repeat(column.width.saturating_sub(cell.chars().count()));
            let (before, after) = if column.numeric { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.extend([before, cell, after, GAP]);
        }
        Ok(writeln!(out, "{}", line.trim_end())?)
    }
}

impl Column {
    fn new(name: &str, value: &RawValue) -> Self {
        let name = output::sanitised(name).into_owned();
        let numeric = value.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
        Self { width: name.chars().count(), name, numeric }
    }
}

/// A value as a person reads it: text without quotes, nothing for null, tags as `line=3, hall=2`.
pub(crate) fn shown(value: &RawValue) -> String {
    let text = value.get();
    let shown = match text.as_bytes().first() {
        Some(b'n') => return String::new(),
        Some(b'"') => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, Option<String>>>(text) {
            Ok(tags) => {
                tags.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or_default())).collect::<Vec<_>>().join(", ")
            }
            Err(_) => text.to_owned(),
        },
        _ => text.to_owned(),
    };
    output::sanitised(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pages: &[&[&str]]) -> String {
        let (mut table, mut out) = (Table::default(), Vec::new());
        for page in pages {
            let rows: Vec<Box<RawValue>> = page.iter().map(|row| RawValue::from_string((*row).to_owned()).unwrap()).collect();
            table.page(&rows, |row| row, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_numbers_stand_at_their_end() {
        let page =
            [r#"{"device":"press-7","tags":{"line":"3"},"count":7,"avg":1.25}"#, r#"{"device":"a","tags":{},"count":12000,"avg":null}"#];
        let expected = "DEVICE   TAGS    COUNT   AVG\npress-7  line=3      7  1.25\na                12000\n";
        assert_eq!(printed(&[&page]), expected);
    }

    #[test]
    fn later_pages_go_on_under_the_same_head() {
        let (first, second) = ([r#"{"metric":"t","value":1}"#], [r#"{"value":22,"metric":"temperature"}"#]);
        assert_eq!(printed(&[&first, &second]), "METRIC  VALUE\nt           1\ntemperature     22\n");
    }

    #[test]
    fn what_a_device_calls_itself_cannot_steer_the_terminal() {
        let page = [r#"{"device":"\u001b[31mred\r\nx","tags":{"\u009b":"\u0007"}}"#];
        let text = printed(&[&page]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
