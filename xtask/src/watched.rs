//! What is shipped for Prometheus and Grafana keeps its rules, which no tool here checks: Grafana's linter and a person's eye.
//!
//! Owns: where the files are, reading them, and what is wrong across them. Does not know: whether an expression is right or has
//! data (`headwater/tests/it/watch.rs` asks a real Prometheus).

mod alerts;
mod dashboards;
mod promql;
mod provisioning;

use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use yaml_rust2::{Yaml, YamlLoader};

/// All breaches in the checkout at `root`, as `file: what`.
pub(crate) fn problems(root: &Path) -> anyhow::Result<Vec<String>> {
    let deploy = root.join("deploy");
    let dashboards = dashboards(&deploy.join("grafana/dashboards"))?;
    let mut problems = dashboards::problems(&dashboards);
    let metrics = Metrics::of(&read(&root.join("docs/metrics.md"))?);
    problems.extend(
        dashboards::expressions(&dashboards)
            .flat_map(|(file, expr)| metrics.unknown(expr).map(move |name| format!("{file}: there is no {name}"))),
    );
    let watch = alerts::Shipped {
        rules: yamls(&deploy.join("prometheus/rules"))?,
        tests: yamls(&deploy.join("prometheus/tests"))?,
        runbook: read(&root.join("docs/runbook.md"))?,
        dashboards: dashboards.iter().filter_map(|(_, board)| board["uid"].as_str().map(str::to_owned)).collect(),
    };
    problems.extend(
        alerts::expressions(&watch.rules)
            .flat_map(|expr| metrics.unknown(expr).map(|name| format!("deploy/prometheus: there is no {name}"))),
    );
    problems.extend(alerts::problems(&watch));
    let provisioned = provisioning::Shipped {
        files: yamls(&deploy.join("grafana/provisioning/datasources"))?
            .into_iter()
            .chain(yamls(&deploy.join("grafana/provisioning/dashboards"))?)
            .collect(),
        compose: yaml(&root.join("compose.yaml"))?,
        asked: dashboards.iter().filter_map(|(_, board)| dashboards::source_of(board)).map(str::to_owned).collect(),
    };
    problems.extend(provisioning::problems(&provisioned));
    Ok(problems)
}

/// The metrics that docs/metrics.md lists (a test of the product holds it against what is exported).
struct Metrics(BTreeSet<String>);

impl Metrics {
    fn of(page: &str) -> Self {
        Self(page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect())
    }

    /// The names in an expression that are none of these, `up`, or recorded by a rule.
    fn unknown<'a>(&self, expression: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_known = |name: &str| {
            let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
            name == "up" || name.contains(':') || [name].into_iter().chain(parts).any(|name| self.0.contains(name))
        };
        let unknown: Vec<&str> = promql::selectors(expression).iter().map(|used| used.name).filter(|name| !is_known(name)).collect();
        unknown.into_iter()
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn files(folder: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension)) {
            files.push(path);
        }
    }
    anyhow::ensure!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    Ok(files)
}

fn dashboards(folder: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let parsed = |path: PathBuf| {
        let board = serde_json::from_str(&read(&path)?).with_context(|| format!("read {}", path.display()))?;
        Ok((path.display().to_string(), board))
    };
    files(folder, &["json"])?.into_iter().map(parsed).collect()
}

fn yamls(folder: &Path) -> anyhow::Result<Vec<Yaml>> {
    files(folder, &["yml", "yaml"])?.iter().map(|path| yaml(path)).collect()
}

fn yaml(path: &Path) -> anyhow::Result<Yaml> {
    let mut documents = YamlLoader::load_from_str(&read(path)?).with_context(|| format!("read {}", path.display()))?;
    anyhow::ensure!(documents.len() == 1, "{} is not one document", path.display());
    Ok(documents.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_keeps_the_rules() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(problems(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_metric_that_nobody_exports_is_found() {
        let metrics = Metrics::of("| name | type |\n|---|---|\n| `a_total` | counter |\n| `b_seconds` | histogram |\n");
        let unknown = |expr: &'static str| metrics.unknown(expr).collect::<Vec<_>>();
        assert!(unknown("rate(a_total{x=\"y\"}[5m]) / rate(b_seconds_count{}[5m]) > up and job:c:d").is_empty());
        assert_eq!(unknown("a / b_seconds_max + c_total"), ["a", "b_seconds_max", "c_total"]);
    }
}
