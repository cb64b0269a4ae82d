//! The API's JSON: what one request with room for all rows would have answered.

use super::pages::Pages;
use std::io::Write;

/// Prints all pages as one document.
pub(crate) fn print(pages: &mut Pages<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut n_rows, mut cursor) = (0_u64, None);
    while let Some(page) = pages.next_page()? {
        if n_rows == 0 && cursor.is_none() {
            write!(out, "{{")?;
            for (name, value) in &page.head.0 {
                write!(out, "{}:{},", serde_json::to_string(name)?, value.get())?;
            }
            write!(out, "\"rows\":[")?;
        }
        for row in &page.rows {
            write!(out, "{}{}", if n_rows == 0 { "\n" } else { ",\n" }, row.get())?;
            n_rows += 1;
        }
        cursor = page.next_cursor;
    }
    Ok(writeln!(out, "{}],\"next_cursor\":{}}}", if n_rows == 0 { "" } else { "\n" }, serde_json::to_string(&cursor)?)?)
}
