//! Rules of Grafana's provisioning: what is provisioned stays as the files say, and every variable and source has its counterpart.
//!
//! Owns: those rules. Does not know: Grafana's other settings.

use std::collections::BTreeSet;
use yaml_rust2::Yaml;

/// What is looked at.
pub(crate) struct Shipped {
    pub(crate) files: Vec<Yaml>,
    pub(crate) compose: Yaml,
    /// The kinds of sources that dashboards ask.
    pub(crate) asked: BTreeSet<String>,
}

/// All breaches.
pub(crate) fn problems(shipped: &Shipped) -> Vec<String> {
    let mut problems = Vec::new();
    for file in &shipped.files {
        if file["apiVersion"].as_i64() != Some(1) {
            problems.push("a file has not apiVersion 1".to_owned());
        }
        problems.extend(file["datasources"].as_vec().into_iter().flatten().flat_map(source));
        if !file["datasources"].is_badvalue() && file["prune"].as_bool() != Some(true) {
            problems.push("sources that leave the file stay in Grafana (prune)".to_owned());
        }
        problems.extend(file["providers"].as_vec().into_iter().flatten().flat_map(provider));
    }
    let sources = shipped.files.iter().flat_map(|file| file["datasources"].as_vec().into_iter().flatten());
    let kinds: BTreeSet<String> = sources.filter_map(|source| source["type"].as_str().map(str::to_owned)).collect();
    if kinds != shipped.asked {
        problems.push(format!("the sources are {kinds:?}, dashboards ask {:?}", shipped.asked));
    }
    let mut used = BTreeSet::new();
    shipped.files.iter().for_each(|file| variables(file, &mut used));
    problems.extend(unset(&used, &shipped.compose["services"]["grafana"]));
    problems.into_iter().map(|what| format!("deploy/grafana/provisioning: {what}")).collect()
}

fn source(source: &Yaml) -> Vec<String> {
    let name = source["name"].as_str().unwrap_or("a source without a name");
    let mut problems = Vec::new();
    if !source["uid"].as_str().is_some_and(|uid| uid.starts_with("headwater-")) {
        problems.push(format!("{name} has no uid of its own"));
    }
    if source["editable"].as_bool() != Some(false) || source["access"].as_str() != Some("proxy") {
        problems.push(format!("{name} has not editable: false and access: proxy"));
    }
    let secrets = source["secureJsonData"].as_hash().into_iter().flatten();
    let in_clear = secrets.filter(|(_, value)| !value.as_str().is_some_and(|value| value.starts_with('$')));
    problems.extend(in_clear.map(|(key, _)| format!("{name}: {key:?} stands in the file")));
    problems
}

fn provider(provider: &Yaml) -> Vec<String> {
    let fixed = provider["disableDeletion"].as_bool() == Some(true) && provider["allowUiUpdates"].as_bool() == Some(false);
    if fixed { Vec::new() } else { vec!["dashboards can be changed in Grafana (disableDeletion, allowUiUpdates)".to_owned()] }
}

/// The `$NAME`s of all texts.
fn variables(yaml: &Yaml, found: &mut BTreeSet<String>) {
    match yaml {
        Yaml::String(text) => {
            found.extend(text.split('$').skip(1).map(|rest| {
                rest.trim_start_matches('{').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
            }))
        }
        Yaml::Array(list) => list.iter().for_each(|item| variables(item, found)),
        Yaml::Hash(table) => table.values().for_each(|value| variables(value, found)),
        _ => {}
    }
}

/// Variables that compose.yaml does not give to Grafana, and those that it gives for nothing.
fn unset(used: &BTreeSet<String>, grafana: &Yaml) -> Vec<String> {
    let environment = grafana["environment"].as_hash().into_iter().flat_map(|table| table.keys()).filter_map(Yaml::as_str);
    let script = grafana["entrypoint"].as_vec().into_iter().flatten().filter_map(Yaml::as_str);
    let exported = script.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("export ")).flat_map(str::split_whitespace);
    let given: BTreeSet<String> = environment.filter(|name| !name.starts_with("GF_")).chain(exported).map(str::to_owned).collect();
    let missing = used.difference(&given).map(|name| format!("compose.yaml does not set {name}"));
    missing.chain(given.difference(used).map(|name| format!("{name} of compose.yaml is not used"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::YamlLoader;

    const SOURCES: &str = "
apiVersion: 1
prune: true
datasources:
  - {name: A, uid: headwater-a, type: prometheus, access: proxy, editable: false, url: $URL, secureJsonData: {token: $TOKEN}}
";
    const DASHBOARDS: &str = "{apiVersion: 1, providers: [{name: h, disableDeletion: true, allowUiUpdates: false, options: {path: $DIR}}]}";
    const COMPOSE: &str = "
services:
  grafana:
    entrypoint: [sh, -c, \"TOKEN=x\\nexport TOKEN\\nexec y\"]
    environment: {GF_X: y, URL: x, DIR: y}
";

    fn found(sources: &str, dashboards: &str, compose: &str) -> Vec<String> {
        let yaml = |text: &str| YamlLoader::load_from_str(text).unwrap().remove(0);
        let asked = BTreeSet::from(["prometheus".to_owned()]);
        problems(&Shipped { files: vec![yaml(sources), yaml(dashboards)], compose: yaml(compose), asked })
    }

    #[test]
    fn good_files_have_no_problems() {
        assert_eq!(found(SOURCES, DASHBOARDS, COMPOSE), Vec::<String>::new());
    }

    #[test]
    fn every_slip_is_found() {
        for (from, to, expected) in [
            ("prune: true", "prune: false", "prune"),
            ("headwater-a", "other", "uid"),
            ("editable: false", "editable: true", "editable"),
            ("type: prometheus", "type: loki", "dashboards ask"),
            ("$TOKEN", "hunter2", "stands in the file"),
            ("$URL", "$ADDRESS", "compose.yaml does not set ADDRESS"),
            ("disableDeletion: true", "disableDeletion: false", "disableDeletion"),
            ("DIR: y", "OTHER: y", "OTHER of compose.yaml is not used"),
        ] {
            let [sources, dashboards, compose] = [SOURCES, DASHBOARDS, COMPOSE].map(|text| text.replace(from, to));
            let problems = found(&sources, &dashboards, &compose);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{from} -> {to}: {problems:?}");
        }
    }
}
