//! A scrape as a test looks at it, the linter of Prometheus, and the table of docs/metrics.md.
//!
//! Owns: reading the text format, as far as our own text needs it. Does not know: what is expected of any metric.

use crate::client::Ask;
use crate::stack::{Stack, clean};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// A scrape.
pub(crate) struct Scraped {
    pub(crate) text: String,
    values: BTreeMap<String, f64>,
}

/// A family: its kind and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

/// Asks for `/metrics` without any credentials.
pub(crate) fn scrape(stack: &Stack) -> Scraped {
    let text = stack.ask(&Ask::new("GET", "/metrics").anonymous()).ok().text();
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    });
    Scraped { values: samples.collect(), text: text.clone() }
}

impl Scraped {
    /// The value of a series, which has to be there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    /// The sum over all series of a name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.sum_of(name, "")
    }

    /// The sum over all series of a name that have this among their labels.
    pub(crate) fn sum_of(&self, name: &str, label: &str) -> f64 {
        let of = |series: &String| series.split('{').next() == Some(name) && series.contains(label);
        self.values.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// All series there are.
    pub(crate) fn series(&self) -> BTreeSet<&String> {
        self.values.keys().collect()
    }

    /// The series that only rise.
    pub(crate) fn counters(&self) -> Vec<(String, f64)> {
        let rises = |series: &str| {
            let name = series.split('{').next().unwrap_or_default();
            ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
        };
        self.values.iter().filter(|(series, _)| rises(series)).map(|(series, value)| (series.clone(), *value)).collect()
    }

    /// What is described, with the labels of its samples (`le` is not counted).
    pub(crate) fn families(&self) -> BTreeMap<String, Family> {
        let typed = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let of = |name: &str, kind: &str| {
            let samples = self.values.keys().filter_map(|series| {
                let (sample, labels) = series.split_once('{').unwrap_or((series, ""));
                let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| sample.strip_suffix(end)).filter(|_| kind == "histogram");
                (base.unwrap_or(sample) == name).then_some(labels)
            });
            let labels = samples.flat_map(|labels| labels.split(',')).filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            Family { kind: kind.to_owned(), labels: labels.filter(|label| label != "le").collect() }
        };
        typed.map(|(name, kind)| (name.to_owned(), of(name, kind))).collect()
    }
}

/// What `promtool check metrics` has to say: nothing.
pub(crate) fn lint(text: &str) {
    let programs = headwater_servers::install_prometheus().unwrap();
    let mut promtool = clean(programs.promtool_path().to_str().unwrap());
    let mut child =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

/// The table of docs/metrics.md, by name.
pub(crate) fn documented() -> BTreeMap<String, Family> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md")).unwrap();
    let mut families = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, _unit, _meaning] = cells[..] else { panic!("five columns: {row}") };
        // In the order `label` or `label`: its values.
        let labels = labels.split(';').filter_map(|label| label.split('`').nth(1)).map(str::to_owned).collect();
        let name = name.trim_matches('`').to_owned();
        assert!(families.insert(name.clone(), Family { kind: kind.to_owned(), labels }).is_none(), "{name} stands twice");
    }
    families
}
