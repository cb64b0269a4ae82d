//! `compose.yaml` and the `Dockerfile` cannot run where the tests do, so they are read: what may not be missing is there.

use std::collections::BTreeMap;
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader, yaml::Hash};

/// What Headwater's configuration has of what the file sets; the binary's own tests hold these against the real one.
const KEYS: [&str; 4] = ["log.url", "store.url", "store.password_file", "auth.key_file"];

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

fn compose() -> Yaml {
    let mut documents = YamlLoader::load_from_str(&text("compose.yaml")).unwrap();
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// A table with what `<<` merges into it.
fn merged(table: &Hash) -> Hash {
    let below = table.get(&Yaml::from_str("<<")).and_then(Yaml::as_hash).cloned().unwrap_or_default();
    let own = table.iter().filter(|(key, _)| key.as_str() != Some("<<"));
    below.into_iter().chain(own.map(|(key, value)| (key.clone(), value.clone()))).collect()
}

fn services() -> BTreeMap<String, Yaml> {
    let file = compose();
    let services = file["services"].as_hash().unwrap();
    services.iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), Yaml::Hash(merged(service.as_hash().unwrap())))).collect()
}

fn words(list: &Yaml) -> Vec<&str> {
    list.as_vec().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// `name:1.2.3` with nothing that moves.
fn pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    let version = tag.split('-').next().unwrap_or_default().trim_start_matches('v');
    version.contains('.') && version.split('.').all(|part| part.parse::<u32>().is_ok())
}

#[test]
fn every_part_is_there() {
    let names: Vec<String> = services().into_keys().collect();
    assert_eq!(names, ["api", "gateway-1", "gateway-2", "grafana", "ingest-1", "ingest-2", "kafka", "postgres", "prometheus", "rollup"]);
}

/// The variables of a service, with their values.
fn variables(service: &Yaml) -> impl Iterator<Item = (&str, &Yaml)> {
    service["environment"].as_hash().into_iter().flatten().map(|(name, value)| (name.as_str().unwrap(), value))
}

#[test]
fn monitoring_is_asked_for_and_watches_every_process() {
    let watched: Vec<String> = services()
        .into_iter()
        .filter(|(_, service)| service["image"].as_str().unwrap().starts_with("headwater:"))
        .map(|(name, service)| {
            // Whoever listens on this container's own loopback only cannot be asked.
            assert!(words(&service["command"]).contains(&"0.0.0.0:8080"), "{name}");
            format!("{name}:8080")
        })
        .collect();
    let config = YamlLoader::load_from_str(&text("deploy/prometheus/compose.yml")).unwrap().remove(0);
    let jobs = config["scrape_configs"].as_vec().unwrap();
    let job = jobs.iter().find(|job| job["job_name"].as_str() == Some("headwater")).unwrap();
    let mut targets = words(&job["static_configs"][0]["targets"]);
    targets.sort_unstable();
    assert_eq!(targets, watched);
    for (name, service) in services() {
        let asked_for = service["profiles"].as_vec().is_some();
        assert_eq!(asked_for, ["prometheus", "grafana"].contains(&name.as_str()), "{name}");
        for volume in service["volumes"].as_vec().into_iter().flatten().filter_map(Yaml::as_str).filter(|volume| volume.starts_with('.')) {
            let (here, there) = volume.split_once(':').unwrap();
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(here).is_dir(), "{name}: {here}");
            assert!(there.ends_with(":ro"), "{name} could write to {here}");
        }
    }
}

#[test]
fn every_service_is_pinned_watched_and_read_only() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        assert!(pinned(image), "{name}: {image}");
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        assert!(words(&service["tmpfs"]).contains(&"/tmp"), "{name}");
        assert!(words(&service["healthcheck"]["test"])[0].starts_with("CMD"), "{name}");
        assert!(words(&service["security_opt"]).contains(&"no-new-privileges:true"), "{name}");
        assert_ne!(service["privileged"].as_bool(), Some(true), "{name}");
        for port in service["ports"].as_vec().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to others: {port:?}");
        }
    }
}

#[test]
fn what_moves_is_not_pinned() {
    for (image, is) in [
        ("a/b:4.3.1", true),
        ("p:17.10-bookworm", true),
        ("m/p:v3.5.0", true),
        ("p", false),
        ("p:latest", false),
        ("p:17", false),
        ("h:1/p", false),
    ] {
        assert_eq!(pinned(image), is, "{image}");
    }
}

#[test]
fn every_variable_of_headwater_is_a_key_of_its_configuration() {
    let mut seen = 0;
    for (name, service) in services() {
        for (variable, _) in variables(&service) {
            let Some(key) = variable.strip_prefix("HEADWATER_") else { continue };
            let key = key.replace("__", ".").to_ascii_lowercase();
            assert!(KEYS.contains(&key.as_str()), "{name}: {key}");
            seen += 1;
        }
    }
    assert_eq!(seen, 6 * KEYS.len());
}

#[test]
fn secrets_are_files_and_named_where_they_are_used() {
    let file = compose();
    for (name, service) in services() {
        let secrets = words(&service["secrets"].as_vec().map_or(Yaml::Array(Vec::new()), |list| Yaml::Array(list.clone())))
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        for secret in &secrets {
            assert!(file["secrets"][secret.as_str()]["file"].as_str().unwrap().starts_with("./secrets/"), "{secret}");
        }
        for (variable, value) in variables(&service) {
            assert!(!variable.ends_with("PASSWORD"), "{name}: {variable} would hold a password in clear");
            if let Some(secret) = value.as_str().and_then(|value| value.strip_prefix("/run/secrets/")) {
                assert!(secrets.iter().any(|known| known == secret), "{name}: {variable}");
            }
        }
    }
    assert!(text(".dockerignore").lines().any(|line| line == "/secrets"));
}

#[test]
fn the_image_is_of_the_version_of_the_workspace_and_not_run_by_root() {
    let version = env!("CARGO_PKG_VERSION");
    let file = compose();
    assert_eq!(file["x-headwater"]["image"].as_str(), Some(format!("headwater:{version}").as_str()));
    let dockerfile = text("Dockerfile");
    let from: Vec<&str> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(from.len(), 2);
    assert!(from.iter().all(|from| pinned(from.split(' ').next().unwrap())), "{from:?}");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').next().unwrap().parse::<u32>().unwrap() > 0);
    assert!(dockerfile.contains("cargo build --release --locked"));
    let toolchain = format!("rust:{}.", env!("CARGO_PKG_RUST_VERSION"));
    assert!(from[0].starts_with(&toolchain), "{} builds with another Rust than {toolchain}", from[0]);
}
