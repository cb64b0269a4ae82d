//! `headwater config`: the configuration as it counts, and what is wrong with it.
//!
//! Owns: how it is printed. Does not know: sections and keys, what is secret (the configuration says both).
//! Invariant: what `print` writes is TOML that can be read back.

use crate::cli::{ConfigCommand, ConfigWanted};
use crate::config::{self, Looked, Section};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::Write;

/// Where the word for a value's origin stands.
const COLUMN: usize = 60;
const DEFAULT: &str = "default";

pub(crate) fn run(command: &ConfigCommand, environment: &Environment) -> Outcome {
    match command {
        ConfigCommand::Print(wanted) => print(wanted, environment),
        ConfigCommand::Check(wanted) => check(wanted, environment),
    }
}

fn look(wanted: &ConfigWanted, environment: &Environment) -> Result<Looked, config::Problems> {
    config::look(wanted.server.config.as_deref(), environment, wanted.flags(), wanted.server.insecure)
}

fn print(wanted: &ConfigWanted, environment: &Environment) -> Outcome {
    // What cannot be read has no value to show.
    config::load(wanted.server.config.as_deref(), environment, wanted.flags())?;
    let sections = look(wanted, environment)?.sections().map_err(anyhow::Error::from)?;
    write(&if wanted.json { in_json(&sections).to_string() + "\n" } else { in_toml(&sections) })
}

fn check(wanted: &ConfigWanted, environment: &Environment) -> Outcome {
    let (summary, problems) = match look(wanted, environment) {
        Ok(looked) => (summary(&looked), looked.problems),
        Err(problems) => (String::new(), problems),
    };
    let lines = problems.lines();
    write(&if wanted.json {
        json!({ "ok": lines.is_empty(), "problems": lines }).to_string() + "\n"
    } else if lines.is_empty() {
        summary
    } else {
        lines.iter().fold(String::new(), |text, line| text + &output::sanitised(line) + "\n")
    })?;
    if lines.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn summary(looked: &Looked) -> String {
    let settings = &looked.settings;
    let roles: Vec<&str> = settings.roles.iter().map(|role| role.as_str()).collect();
    let (log, store, listen) = (&settings.log, &settings.store, &settings.http.listen);
    format!("nothing is wrong: {} on {listen}, log {log}, store {store}\n", roles.join(", "))
}

fn write(text: &str) -> Outcome {
    let mut out = output::data();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn in_json(sections: &[Section]) -> Value {
    let keys = |section: &Section| -> Map<String, Value> {
        let keys = section.keys.iter();
        keys.map(|(key, value, from)| (key.clone(), json!({ "value": value, "from": from.as_deref().unwrap_or(DEFAULT) }))).collect()
    };
    let mut all = Map::new();
    for section in sections {
        match section.name {
            "" => all.extend(keys(section)),
            name => drop(all.insert(name.to_owned(), keys(section).into())),
        }
    }
    all.into()
}

fn in_toml(sections: &[Section]) -> String {
    let mut text = String::new();
    for Section { name, keys } in sections {
        if !name.is_empty() {
            text.push_str(&format!("\n[{name}]\n"));
        }
        // Tables of their own come after all other keys of the section.
        let (tables, plain): (Vec<_>, Vec<_>) = keys.iter().partition(|(_, value, _)| is_list_of_tables(value));
        for (key, value, from) in plain {
            let from = from.as_deref().unwrap_or(DEFAULT);
            let line = if value.is_null() { format!("# {key} is not set") } else { format!("{key} = {}", inline(value)) };
            text.push_str(&match value {
                Value::Null => format!("{line}\n"),
                _ => format!("{line:<COLUMN$} # {}\n", output::sanitised(from)),
            });
        }
        for (key, value, from) in tables {
            let from = from.as_deref().unwrap_or(DEFAULT);
            for table in value.as_array().into_iter().flatten() {
                let heading = format!("[[{name}.{key}]]");
                text.push_str(&format!("{heading:<COLUMN$} # {}\n", output::sanitised(from)));
                for (key, value) in table.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                    text.push_str(&format!("{} = {}\n", name_of(key), inline(value)));
                }
            }
        }
    }
    text
}

fn is_list_of_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.first().is_some_and(Value::is_object))
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(keys) => {
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{} = {}", name_of(key), inline(value))).collect();
            if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) }
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn name_of(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { key.to_owned() } else { quoted(key) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => drop(write!(quoted, "\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn printed(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let looked = config::look(Some(file.path()), &Environment::default(), Flags::default(), false).unwrap();
        assert_eq!(looked.problems, config::Problems::default());
        in_toml(&looked.sections().unwrap())
    }

    /// Without the words for origins.
    fn values(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end()).collect()
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_says_the_same() {
        let text = r#"
            data_dir = "a \"quoted\" directory\u0007"
            roles = ["api", "gateway", "ingest"]
            [log]
            url = "kafka://k:9092/t?partitions=3"
            options = { "client.id" = "x" }
            [store]
            url = "postgres://me@localhost/d"
            password_file = "/run/secrets/store"
            [http]
            idle_timeout = "1m30s"
            [[auth.providers]]
            issuer = "https://id.example.com/a"
            [[auth.providers]]
            issuer = "https://id.example.com/b"
            audience = "x"
        "#;
        for text in ["", text] {
            let once = printed(text);
            let again = printed(&once);
            assert_eq!(values(&once), values(&again));
        }
        let once = printed(text);
        for line in [
            "idle_timeout = \"1m30s\"",
            "options = { \"client.id\" = \"x\" }",
            "# tls_ca is not set",
            "roles = [\"gateway\", \"ingest\", \"api\"]",
        ] {
            assert!(values(&once).contains(&line) || once.contains(line), "{line} in {once}");
        }
    }

    #[test]
    fn origins_stand_beside_the_values() {
        let once = printed("[http]\nlisten = '127.0.0.1:1'");
        let line = |start: &str| once.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        assert!(line("listen").ends_with(".tmp") || line("listen").contains(" # /"), "{}", line("listen"));
        assert!(line("idle_timeout").ends_with(" # default"));
    }
}
