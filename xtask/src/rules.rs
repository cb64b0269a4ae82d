//! The two rules about dependencies: which crate may know which, and what may be shipped.
//!
//! Owns: the list of edges (ARCHITECTURE.md, "Crates and floors") and of licences. An edge that is not in the list fails.

use crate::metadata::{Metadata, Package};

/// Every in-repo edge that may be: (crate, what it may depend on). Dev-dependencies: also [`FOR_TESTS`].
const EDGES: &[(&str, &[&str])] = &[
    ("headwater-core", &[]),
    ("headwater-wire", &["headwater-core"]),
    ("headwater-contract", &["headwater-core"]),
    ("headwater-web", &["headwater-core"]),
    ("headwater-embedded", &["headwater-core"]),
    ("headwater-kafka", &["headwater-core"]),
    ("headwater-postgres", &["headwater-core"]),
    ("headwater-servers", &[]),
    ("headwater-ingest", &["headwater-core", "headwater-wire"]),
    ("headwater-rollup", &["headwater-core", "headwater-web"]),
    ("headwater-gateway", &["headwater-core", "headwater-wire", "headwater-web"]),
    ("headwater-api", &["headwater-core", "headwater-web"]),
    ("headwater-simulator", &["headwater-core", "headwater-wire"]),
    (
        "headwater",
        &[
            "headwater-core",
            "headwater-wire",
            "headwater-web",
            "headwater-embedded",
            "headwater-kafka",
            "headwater-postgres",
            "headwater-ingest",
            "headwater-rollup",
            "headwater-gateway",
            "headwater-api",
            "headwater-simulator",
        ],
    ),
    ("xtask", &["headwater-servers"]),
];

/// What tests of any crate may use.
const FOR_TESTS: &[&str] = &["headwater-contract", "headwater-servers"];

const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "BlueOak-1.0.0",
    "Unlicense",
];
/// Where they only help to build and test.
const DEV_LICENCES: &[&str] = &["MPL-2.0"];

/// Crates that must not come in, each with the reason.
const BANNED: &[(&str, &str)] =
    &[("ring", "one crypto provider: aws-lc-rs"), ("openssl-sys", "one crypto provider: aws-lc-rs"), ("rsa", "RUSTSEC-2023-0071")];

/// All breaches of the rule of dependencies.
pub(crate) fn edges(metadata: &Metadata) -> Vec<String> {
    metadata.members().flat_map(edges_of).collect()
}

fn edges_of(package: &Package) -> Vec<String> {
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{} is not in the list of crates (xtask/src/rules.rs, ARCHITECTURE.md)", package.name)];
    };
    let in_repo = package.dependencies.iter().filter(|dep| dep.path.is_some());
    in_repo
        .filter(|dep| {
            let for_tests = FOR_TESTS.contains(&dep.name.as_str()) && dep.kind.as_deref() == Some("dev");
            !for_tests && !allowed.contains(&dep.name.as_str())
        })
        .map(|dep| format!("{} must not depend on {}", package.name, dep.name))
        .collect()
}

/// All breaches of the rules about licences, sources and bans.
pub(crate) fn supply(metadata: &Metadata) -> Vec<String> {
    let shipped = metadata.shipped();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == package.name) {
            problems.push(format!("{name} is banned: {why}"));
        }
        if package.source.as_deref().is_some_and(|source| !source.starts_with("registry+") && !source.starts_with("sparse+")) {
            problems.push(format!("{name} does not come from the registry"));
        }
        let dev_only = !shipped.contains(package.id.as_str());
        let allowed = |licence: &str| LICENCES.contains(&licence) || (dev_only && DEV_LICENCES.contains(&licence));
        match &package.license {
            Some(licence) if satisfied(licence, &allowed) => {}
            Some(licence) => problems.push(format!("{name}: its licence {licence} is not allowed")),
            None => problems.push(format!("{name} names no licence")),
        }
    }
    problems
}

/// Whether an SPDX expression can be satisfied by allowed licences. Exceptions (`WITH`) only permit more.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&tokens, &mut at, allowed) && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut holds = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        holds |= all_of(tokens, at, allowed);
    }
    holds
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut holds = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        holds &= one(tokens, at, allowed);
    }
    holds
}

fn one(tokens: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some(&token) = tokens.get(*at) else { return false };
    *at += 1;
    if token == "(" {
        let holds = any_of(tokens, at, allowed);
        *at += 1;
        return holds;
    }
    if tokens.get(*at) == Some(&"WITH") {
        *at += 2;
    }
    allowed(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_spdx() {
        let allowed = |licence: &str| matches!(licence, "MIT" | "Apache-2.0");
        for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(GPL-2.0 OR MIT) AND Apache-2.0", "Apache-2.0 WITH LLVM-exception"] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", ""] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn an_edge_that_is_not_listed_fails() {
        let package: Package = serde_json::from_str(
            r#"{"id":"x","name":"headwater-ingest","version":"0","license":null,"source":null,"dependencies":[
                {"name":"headwater-core","kind":null,"path":"/x"},
                {"name":"headwater-contract","kind":"dev","path":"/x"},
                {"name":"headwater-embedded","kind":null,"path":"/x"},
                {"name":"headwater-contract","kind":null,"path":"/x"}]}"#,
        )
        .unwrap();
        let problems = edges_of(&package);
        assert_eq!(
            problems,
            ["headwater-ingest must not depend on headwater-embedded", "headwater-ingest must not depend on headwater-contract"]
        );
    }
}
