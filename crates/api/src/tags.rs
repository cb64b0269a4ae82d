//! Tags as columns of CSV.
//!
//! Owns: which columns a page needs and how a series fills them. Does not know: the other columns.

use crate::answer::Csv;
use headwater_core::series::Parts;
use std::collections::BTreeSet;

/// Adds the names of a series' tags.
pub(crate) fn collect(names: &mut BTreeSet<String>, parts: Parts<'_>) {
    for (name, _) in parts.tags() {
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
}

/// Writes a cell for each of `names`, empty where the series does not have the tag.
pub(crate) fn cells(csv: &mut Csv<'_>, parts: Parts<'_>, names: &BTreeSet<String>) {
    for name in names {
        match parts.tag(name) {
            Some(value) => csv.text(value),
            None => csv.empty(),
        }
    }
}
