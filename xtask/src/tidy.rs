//! Rules about sources that no lint has: every module says what it is, nothing is left open.

use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// All breaches, as `file: what`.
pub(crate) fn problems() -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for folder in ["crates", "xtask"] {
        for file in sources(Path::new(folder))? {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            problems.extend(problems_of(&text).into_iter().map(|what| format!("{}: {what}", file.display())));
        }
    }
    Ok(problems)
}

fn problems_of(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push("does not open by saying what it is for (//!)".to_owned());
    }
    // Spelled in two halves, so that this file keeps its own rule.
    for word in [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("#[ign", "ore]"), concat!("#[all", "ow(")] {
        if let Some(line) = text.lines().position(|line| line.contains(word)) {
            problems.push(format!("line {}: {word}", line + 1));
        }
    }
    problems
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ends_are_found() {
        assert!(problems_of("//! x\nfn f() {}\n").is_empty());
        assert_eq!(problems_of(concat!("fn f() {} // TO", "DO\n")).len(), 2);
    }
}
