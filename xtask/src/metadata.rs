//! What `cargo metadata` says, as far as the checks need it.

use anyhow::Context;
use serde::Deserialize;
use std::collections::HashSet;
use std::process::Command;

/// The workspace and everything that it is built from.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

/// One package.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line under a package's dependencies.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` = normal, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    pub(crate) path: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDep>,
}

#[derive(Deserialize)]
struct NodeDep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Metadata {
    /// Asks cargo, for the platform that this runs on.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let host = Command::new("rustc").arg("-vV").output().context("run rustc -vV")?;
        let host = String::from_utf8(host.stdout)?;
        let target = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target])
            .output()
            .context("run cargo metadata")?;
        anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let mut metadata: Self = serde_json::from_slice(&output.stdout).context("read what cargo metadata says")?;
        let built = built(target)?;
        metadata.packages.retain(|package| built.contains(&(package.name.clone(), package.version.clone())));
        Ok(metadata)
    }

    /// The packages of this project.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Everything that ends in the product: reached from the workspace without dev-dependencies.
    pub(crate) fn shipped(&self) -> HashSet<&str> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut open: Vec<&str> = self.workspace_members.iter().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            for dep in node.into_iter().flat_map(|node| &node.deps) {
                if dep.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev")) {
                    open.push(&dep.pkg);
                }
            }
        }
        seen
    }
}

/// Name and version of everything that is really built. `cargo metadata` also lists what only a weak feature names (`dep?/feature`), which is
/// neither built nor shipped; `cargo tree` does not.
fn built(target: &str) -> anyhow::Result<HashSet<(String, String)>> {
    let output = Command::new("cargo")
        .args(["tree", "--workspace", "--locked", "--target", target, "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("run cargo tree")?;
    anyhow::ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    Ok(text.lines().filter_map(package).collect())
}
