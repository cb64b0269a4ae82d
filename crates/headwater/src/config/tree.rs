//! Where values come from: one tree out of file, environment and flags, read section by section.
//!
//! Owns: precedence, names of environment variables, collecting all problems. Does not know: which sections exist.
//! Invariant: strings stay as they were written (`007`); numbers are read from strings only where a number is wanted.

use super::Problems;
use crate::environment::Environment;
use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// Keys whose value is a list: in the environment and in flags, comma-separated.
const LISTS: [&str; 3] = ["roles", "gateway.device_tags", "ingest.device_tags"];

/// Values that were given on the command line, by path.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<(&'static str, &'static str, String)>);

impl Flags {
    /// Sets the key at `path` from the flag `flag`, where it was given.
    #[must_use]
    pub(crate) fn with(mut self, path: &'static str, flag: &'static str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value {
            self.0.push((path, flag, value.into()));
        }
        self
    }
}

/// Which keys of a section to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// All that are left.
    All,
    /// Only these.
    Only(&'static [&'static str]),
}

/// All values, the problems found so far, and which value came from where.
#[derive(Debug)]
pub(super) struct Tree {
    values: Map<String, Value>,
    origins: BTreeMap<String, String>,
    /// Keys that the file sets, and its name.
    in_file: BTreeMap<String, String>,
    problems: Vec<String>,
}

/// Where the values that were set come from, by path.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// The file, the variable or the flag that sets the key at `path`; `None` where its default counts.
    pub(crate) fn of(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

/// Values by path, to be laid over the ones before.
#[derive(Debug, Clone, Default)]
struct Overlay(Map<String, Value>);

impl Source for Overlay {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Tree {
    /// Lays the sources over one another.
    pub(super) fn gather(file: Option<&Path>, environment: &Environment, flags: Flags) -> Result<Self, Problems> {
        let mut tree = Self { values: Map::new(), origins: BTreeMap::new(), in_file: BTreeMap::new(), problems: Vec::new() };
        let text = file.map(read_file).transpose()?.unwrap_or_default();
        tree.note_file(&text, file);
        let overlay = tree.overlay(environment, flags);
        let built = Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).add_source(overlay).build();
        let table = built.and_then(|config| config.cache.into_table());
        tree.values = table.map_err(|why| match file {
            Some(path) => Problems(vec![format!("{}: {why}", path.display())]),
            None => Problems(vec![why.to_string()]),
        })?;
        Ok(tree)
    }

    /// Remembers which keys the file sets. Whether it can be read is told by whoever reads it together with the rest.
    fn note_file(&mut self, text: &str, file: Option<&Path>) {
        let Some(file) = file.map(|path| path.display().to_string()) else { return };
        let built = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
        let Ok(table) = built.and_then(|config| config.cache.into_table()) else { return };
        for (key, value) in table {
            match value.kind {
                ValueKind::Table(section) => section.keys().for_each(|of| drop(self.in_file.insert(join(&key, of), file.clone()))),
                _ => drop(self.in_file.insert(key, file.clone())),
            }
        }
    }

    fn overlay(&mut self, environment: &Environment, flags: Flags) -> Overlay {
        let mut overlay = Overlay::default();
        for (name, rest, value) in environment.configuration() {
            match path_of(rest) {
                Some(path) => self.lay(&mut overlay, path, name, value),
                None => self.problems.push(format!("{name}: names no key; a key is HEADWATER_SECTION__KEY or HEADWATER__KEY")),
            }
        }
        for (path, flag, value) in flags.0 {
            self.lay(&mut overlay, path.to_owned(), flag, &value);
        }
        overlay
    }

    fn lay(&mut self, overlay: &mut Overlay, path: String, origin: &str, value: &str) {
        let kind = if LISTS.contains(&path.as_str()) { ValueKind::Array(items(value)) } else { ValueKind::from(value) };
        self.origins.insert(path.clone(), origin.to_owned());
        overlay.0.insert(path, Value::new(None, kind));
    }

    /// Takes keys of a section out of the tree (the nameless section is the top level) and reads them. A value that cannot be
    /// read, or a key that nobody knows, is noted as a problem and left out, so that the rest is looked at too.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self, section: &str, keys: Keys) -> T {
        let mut table = self.take(section, keys);
        loop {
            let value = Value::new(None, ValueKind::Table(table.clone()));
            let (key, why) = match serde_path_to_error::deserialize(value) {
                Ok(read) => return read,
                Err(failed) => (first_key(failed.path()), failed.into_inner().to_string()),
            };
            self.problem(&join(section, &key), &why);
            if table.remove(&key).is_none() {
                return T::default();
            }
        }
    }

    /// Adds what a section says of itself; its problems begin with the key, or with the section already.
    pub(super) fn note(&mut self, section: &str, problems: impl IntoIterator<Item = String>) {
        let of_section = format!("{section}.");
        let named = |problem: String| if problem.starts_with(&of_section) { problem } else { join(section, &problem) };
        self.problems.extend(problems.into_iter().map(named));
    }

    /// Says why a section cannot be here, should it be.
    #[cfg(not(feature = "otlp"))]
    pub(super) fn refuse(&mut self, section: &str, why: &str) {
        if self.values.remove(section).is_some() {
            self.problem(section, why);
        }
    }

    /// All problems, keys that nobody has read among them, and where values come from.
    pub(super) fn finish(mut self) -> (Vec<String>, Origins) {
        let left: Vec<String> = self.values.keys().cloned().collect();
        left.iter().for_each(|key| {
            let key = self.origins.keys().find(|path| path.split('.').next() == Some(key)).unwrap_or(key).clone();
            self.problem(&key, "there is no such key");
        });
        self.in_file.extend(self.origins);
        (self.problems, Origins(self.in_file))
    }

    fn take(&mut self, section: &str, keys: Keys) -> Map<String, Value> {
        let Some(mut table) = self.section(section) else { return Map::new() };
        let taken = match keys {
            Keys::All => std::mem::take(&mut table),
            Keys::Only(keys) => keys.iter().filter_map(|key| Some(((*key).to_owned(), table.remove(*key)?))).collect(),
        };
        if section.is_empty() {
            self.values = table;
        } else if !table.is_empty() {
            self.values.insert(section.to_owned(), Value::new(None, ValueKind::Table(table)));
        }
        taken
    }

    fn section(&mut self, section: &str) -> Option<Map<String, Value>> {
        if section.is_empty() {
            return Some(std::mem::take(&mut self.values));
        }
        match self.values.remove(section)?.kind {
            ValueKind::Table(table) => Some(table),
            _ => {
                self.problem(section, "is a section, so its keys stand under it");
                None
            }
        }
    }

    fn problem(&mut self, path: &str, why: &str) {
        let origin = self.origins.get(path).map(|origin| format!(" ({origin})")).unwrap_or_default();
        self.problems.push(format!("{path}{origin}: {why}"));
    }
}

/// Where a variable's value goes: `STORE__URL` → `store.url`, `_DATA_DIR` → `data_dir`.
fn path_of(rest: &str) -> Option<String> {
    let parts: Vec<&str> = match rest.strip_prefix('_') {
        Some(key) => vec![key],
        None => rest.split("__").collect(),
    };
    let is_name = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (parts.iter().all(is_name) && parts.len() <= 2).then(|| parts.join(".").to_ascii_lowercase())
}

fn items(value: &str) -> Vec<Value> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| Value::new(None, ValueKind::from(item))).collect()
}

fn first_key(path: &serde_path_to_error::Path) -> String {
    path.iter().next().map(ToString::to_string).unwrap_or_default()
}

fn join(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => section.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}

fn read_file(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|why| Problems(vec![format!("cannot read the configuration file {}: {why}", path.display())]))
}
