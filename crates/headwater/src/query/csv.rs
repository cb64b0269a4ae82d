//! CSV, in the form that the API has: a column for each tag.
//!
//! Owns: the columns, and what keeps a spreadsheet from taking a text for a formula. Does not know: which rows there are. The API's own CSV is not used: each of its pages has columns for the
//! tags that occur in it, and some lists have none.
//!
//! Invariant: one header, and every row has its columns. Any row may bring another tag, so all rows are put aside first, in
//! memory as long as they are few.

use super::pages::{Members, Pages};
use anyhow::Context;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use tempfile::SpooledTempFile;

/// Rows beyond this size go to a temporary file.
const IN_MEMORY_BYTES: usize = 32 << 20;
const TAGS: &str = "tags";

type Tags = BTreeMap<String, Option<String>>;

/// What is done with a text that a spreadsheet would take for a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Formulas {
    /// It gets an apostrophe before it, as in the API's CSV of statistics.
    #[default]
    Guarded,
    /// Nothing: raw readings are what `POST /v1/readings` takes, and an apostrophe more would be another device.
    AsTheyAre,
}

/// Prints all pages.
pub(super) fn print(pages: &mut Pages<'_>, formulas: Formulas, out: &mut impl Write) -> anyhow::Result<()> {
    let mut aside = Aside { formulas, ..Aside::default() };
    while let Some(page) = pages.next_page()? {
        page.rows.iter().try_for_each(|row| aside.put(row))?;
    }
    aside.print(out)
}

/// Rows that wait until all columns are known.
struct Aside {
    formulas: Formulas,
    rows: BufWriter<SpooledTempFile>,
    columns: Vec<String>,
    tags: BTreeSet<String>,
}

impl Default for Aside {
    fn default() -> Self {
        let rows = BufWriter::new(SpooledTempFile::new(IN_MEMORY_BYTES));
        Self { formulas: Formulas::default(), rows, columns: Vec::new(), tags: BTreeSet::new() }
    }
}

impl Aside {
    fn put(&mut self, row: &RawValue) -> anyhow::Result<()> {
        let members: Members = serde_json::from_str(row.get()).context("read a row")?;
        for tag in tags_of(&members)?.into_keys() {
            self.tags.insert(tag);
        }
        if self.columns.is_empty() {
            self.columns = members.0.into_iter().map(|(name, _)| name).collect();
        }
        writeln!(self.rows, "{}", row.get()).context("put rows aside in a temporary file")
    }

    fn print(self, out: &mut impl Write) -> anyhow::Result<()> {
        let Self { formulas, rows, columns, tags } = self;
        if columns.is_empty() {
            return Ok(());
        }
        let mut rows = rows.into_inner().context("put rows aside in a temporary file")?;
        rows.seek(SeekFrom::Start(0))?;
        let names = columns.iter().flat_map(|column| match column.as_str() {
            TAGS => tags.iter().map(|tag| format!("tag.{tag}")).collect(),
            other => vec![other.to_owned()],
        });
        write_line(names, out)?;
        for row in serde_json::Deserializer::from_reader(BufReader::new(rows)).into_iter::<Members>() {
            write_line(cells(&row.context("read rows that were put aside")?, &columns, &tags, formulas)?, out)?;
        }
        Ok(())
    }
}

fn cells(row: &Members, columns: &[String], tags: &BTreeSet<String>, formulas: Formulas) -> anyhow::Result<Vec<String>> {
    let mut own = tags_of(row)?;
    let mut cells = Vec::with_capacity(columns.len() + tags.len());
    for column in columns {
        match column.as_str() {
            TAGS => cells.extend(tags.iter().map(|tag| guarded(own.remove(tag).flatten().unwrap_or_default(), formulas))),
            other => {
                cells.push(row.0.iter().find(|(name, _)| name == other).map(|(_, value)| text_of(value, formulas)).unwrap_or_default())
            }
        }
    }
    Ok(cells)
}

fn tags_of(row: &Members) -> anyhow::Result<Tags> {
    match row.0.iter().find(|(name, _)| name == TAGS) {
        Some((_, tags)) => serde_json::from_str(tags.get()).context("read the tags of a row"),
        None => Ok(Tags::new()),
    }
}

/// Text without quotes, numbers as they are, nothing for null.
fn text_of(value: &RawValue, formulas: Formulas) -> String {
    match value.get() {
        "null" => String::new(),
        text => match serde_json::from_str::<String>(text) {
            Ok(text) => guarded(text, formulas),
            Err(_) => text.to_owned(),
        },
    }
}

fn guarded(text: String, formulas: Formulas) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula && formulas == Formulas::Guarded { format!("'{text}") } else { text }
}

fn write_line(cells: impl IntoIterator<Item = String>, out: &mut impl Write) -> anyhow::Result<()> {
    let quoted = |cell: String| if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell };
    let cells: Vec<String> = cells.into_iter().map(quoted).collect();
    Ok(write!(out, "{}\r\n", cells.join(","))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[&str]) -> String {
        let (mut aside, mut out) = (Aside::default(), Vec::new());
        rows.iter().for_each(|row| aside.put(&RawValue::from_string((*row).to_owned()).unwrap()).unwrap());
        aside.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn there_is_a_column_for_every_tag_of_any_row() {
        let rows = [
            r#"{"device":"a,b","tags":{},"unit":null,"value":1.50}"#,
            r#"{"device":"c","tags":{"line":"3","hall":"\"x\""},"unit":"Cel","value":-0.1}"#,
            r#"{"device":"d","tags":{"line":null},"unit":null,"value":1e300}"#,
        ];
        let expected = "device,tag.hall,tag.line,unit,value\r\n\"a,b\",,,,1.50\r\nc,\"\"\"x\"\"\",3,Cel,-0.1\r\nd,,,,1e300\r\n";
        assert_eq!(printed(&rows), expected);
    }

    #[test]
    fn no_text_is_a_formula_unless_it_can_be_sent_back() {
        let row = RawValue::from_string(r#"{"device":"=1+1","tags":{"t":"@x"},"value":-1.5}"#.to_owned()).unwrap();
        for (formulas, expected) in [(Formulas::Guarded, "'=1+1,'@x,-1.5\r\n"), (Formulas::AsTheyAre, "=1+1,@x,-1.5\r\n")] {
            let (mut aside, mut out) = (Aside { formulas, ..Aside::default() }, Vec::new());
            aside.put(&row).unwrap();
            aside.print(&mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("device,tag.t,value\r\n{expected}"));
        }
    }

    #[test]
    fn no_rows_are_nothing() {
        assert_eq!(printed(&[]), "");
    }

    #[test]
    fn many_rows_come_back_from_the_disk_as_they_were() {
        let row = format!("{{\"device\":\"{}\",\"value\":1}}", "d".repeat(1_000));
        let n_rows = IN_MEMORY_BYTES / 1_000 + 2;
        let text = printed(&vec![row.as_str(); n_rows]);
        assert_eq!(text.lines().count(), n_rows + 1);
        assert!(text.lines().skip(1).all(|line| line.len() == 1_002));
    }
}
