//! The configuration as it counts, section by section, in words that can be read back.
//!
//! Owns: which sections there are to show, and what of them is secret. Does not know: how they are printed.
//! Invariants: a value that lets anyone in (a password, a secret or its hash) is never in what this gives; without secrets, what it gives is a
//! configuration that says the same.

use super::{Log, Looked, Settings, Store};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Parts of the names of keys whose values are secret; files that hold one are not.
const SECRET: [&str; 5] = ["password", "secret", "jaas", "key.pem", "oauthbearer.config"];
const NO_SECRET: [&str; 3] = ["_file", ".location", "_cert"];

/// A section: its name (empty for the keys outside of any) and its keys.
pub(crate) struct Section {
    /// `http`, or empty.
    pub(crate) name: &'static str,
    /// Each key with its value and where that comes from (`None`: it is the default).
    pub(crate) keys: Vec<(String, Value, Option<String>)>,
}

impl Looked {
    /// Every section as it counts.
    ///
    /// # Errors
    /// A section cannot be written down: a mistake in the program.
    pub(crate) fn sections(&self) -> serde_json::Result<Vec<Section>> {
        let section = |(name, keys): (&'static str, Map<String, Value>)| {
            let path = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            let origin = |key: &str| self.origins.of(&path(key)).map(str::to_owned);
            let keys = keys.into_iter().map(|(key, value)| (key.clone(), public(&key, value), origin(&key))).collect();
            Section { name, keys }
        };
        Ok(all(&self.settings)?.into_iter().map(section).collect())
    }
}

/// Every section, secrets and all.
fn all(settings: &Settings) -> serde_json::Result<Vec<(&'static str, Map<String, Value>)>> {
    let roles: Vec<&str> = settings.roles.iter().map(|role| role.as_str()).collect();
    Ok(vec![
        ("", written(&json!({ "data_dir": settings.data_dir, "roles": roles }))?),
        ("log", of_log(&settings.log)?),
        ("store", of_store(&settings.store)?),
        ("http", written(&settings.http)?),
        ("gateway", written(&settings.gateway)?),
        ("ingest", written(&settings.ingest)?),
        ("rollup", written(&settings.rollup)?),
        ("api", written(&settings.api)?),
        ("auth", written(&settings.auth)?),
        ("retention", written(&settings.retention)?),
        ("dead_letters", written(&settings.dead_letters)?),
        ("logging", written(&settings.logging)?),
    ])
}

fn of_log(log: &Log) -> serde_json::Result<Map<String, Value>> {
    match log {
        Log::Embedded => written(&json!({ "url": "embedded:" })),
        Log::Kafka(config) => written(config),
    }
}

fn of_store(store: &Store) -> serde_json::Result<Map<String, Value>> {
    let Store::Postgres(config) = store else { return written(&json!({ "url": "sqlite:" })) };
    let mut keys = written(config)?;
    keys.insert("url".to_owned(), config.public_url().into());
    Ok(keys)
}

fn written(section: &impl Serialize) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(section)? {
        Value::Object(keys) => Ok(keys),
        _ => Ok(Map::new()),
    }
}

/// A value without what is secret in it.
fn public(key: &str, value: Value) -> Value {
    match value {
        Value::String(text) if is_secret(key) && !text.is_empty() => HIDDEN.into(),
        Value::Object(keys) => keys.into_iter().map(|(key, value)| (key.clone(), public(&key, value))).collect::<Map<_, _>>().into(),
        Value::Array(items) => items.into_iter().map(|item| public(key, item)).collect::<Vec<_>>().into(),
        other => other,
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET.iter().any(|part| key.contains(part)) && !NO_SECRET.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, look};
    use std::path::Path;

    fn looked(text: &str, environment: &[(&str, &str)]) -> Looked {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        look(Some(file.path()), &environment.iter().copied().collect(), Flags::default(), false).unwrap()
    }

    fn value(looked: &Looked, section: &str, key: &str) -> (Value, Option<String>) {
        let sections = looked.sections().unwrap();
        let section = sections.iter().find(|found| found.name == section).unwrap();
        let (_, value, origin) = section.keys.iter().find(|(found, ..)| found == key).unwrap();
        (value.clone(), origin.clone())
    }

    #[test]
    fn secrets_are_hidden_and_files_that_hold_them_are_shown() {
        let text = r#"
            [log]
            url = "kafka://k/t"
            password_file = "/run/secrets/kafka"
            options = { "sasl.username" = "me", "ssl.key.password" = "hunter2", "ssl.key.location" = "/key.pem" }
            [store]
            url = "postgres://me:hunter2@localhost/d"
            [[auth.clients]]
            id = "grafana"
            secret_hash = "sha256:0123hunter2"
            scope = "read:stats"
        "#;
        let looked = looked(text, &[]);
        let printed = serde_json::to_string(&looked.sections().unwrap().iter().map(|s| &s.keys).collect::<Vec<_>>()).unwrap();
        assert!(!printed.contains("hunter2"), "{printed}");
        for shown in ["/run/secrets/kafka", "postgres://me:***@localhost/d", "sasl.username", "/key.pem", "grafana"] {
            assert!(printed.contains(shown), "{shown} in {printed}");
        }
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let environment = [("HEADWATER_AUTH__ISSUER", "of-environment"), ("HEADWATER__DATA_DIR", "d")];
        let looked = looked("roles = ['gateway']\n[auth]\nissuer = 'of-file'\naudience = 'of-file'", &environment);
        assert_eq!(value(&looked, "auth", "issuer"), ("of-environment".into(), Some("HEADWATER_AUTH__ISSUER".to_owned())));
        assert_eq!(value(&looked, "", "data_dir").1.as_deref(), Some("HEADWATER__DATA_DIR"));
        let (audience, from) = value(&looked, "auth", "audience");
        assert!(audience == "of-file" && from.is_some_and(|from| Path::new(&from).is_absolute()));
        assert_eq!(value(&looked, "http", "listen"), ("127.0.0.1:8080".into(), None));
    }

    #[test]
    fn problems_of_sections_and_of_all_together_come_at_once() {
        let looked = looked("roles = ['gateway']\n[http]\nlisten = '0.0.0.0:80'\nidle_timeout = 'soon'", &[]);
        let problems = looked.problems.lines();
        for words in ["idle_timeout", "can be reached from elsewhere", "only `gateway` runs here"] {
            assert!(problems.iter().any(|problem| problem.contains(words)), "{words} in {problems:?}");
        }
        assert_eq!(problems.len(), 3);
    }
}
