//! What is shipped for systemd and Kubernetes, held against the real binary: units are looked at by systemd's own tools and the server runs within
//! their limits; manifests are read, and every container's configuration is checked by the program that it configures.

use crate::journal::Journal;
use crate::stack::{Builder, HEADWATER, clean};
use headwater_web::ROUTES;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use yaml_rust2::{Yaml, YamlLoader};

/// The highest exposure that a unit may have, of 100 (docs/operating.md tells it as of 10).
const EXPOSURE: &str = "--threshold=11";
/// SQLite gives the files beside a database to the database's owner where it runs as root, which the unit's user is not.
const ONLY_AS_ROOT: &str = "fchown";
/// How long the server's own steps of a stop take at most, in seconds.
const DRAIN_S: i64 = 30;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn systemd(arguments: &[&str], path: &Path) -> String {
    let output = clean("systemd-analyze").args(arguments).arg(path).output();
    let output = output.unwrap_or_else(|why| panic!("this test needs systemd-analyze (Debian: apt-get install systemd): {why}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

const UNITS: [&str; 2] = ["headwater.service", "headwater@.service"];

#[test]
fn units_are_sound_and_exposed_to_little() {
    let home = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let here = text(&format!("systemd/{unit}")).replace("/usr/local/bin/headwater", HEADWATER);
        assert!(here.contains(&format!("ExecStart={HEADWATER}")));
        let path = home.path().join(unit.replace('@', "@gateway"));
        std::fs::write(&path, here).unwrap();
        let said = systemd(&["verify", "--man=no"], &path);
        assert_eq!(said.trim(), "", "{unit}");
        systemd(&["security", "--offline=true", "--no-pager", EXPOSURE], &path);
    }
}

/// `Key=Value` lines of the section of a unit.
fn settings(unit: &str) -> Vec<(String, String)> {
    let text = text(&format!("systemd/{unit}"));
    let (_, service) = text.split_once("[Service]\n").expect("[Service]");
    let lines = service.split("\n[").next().unwrap().lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn both_units_have_the_same_limits_and_set_only_keys_that_there_are() {
    let differs = |key: &str| ["ExecStart", "Environment", "EnvironmentFile", "LoadCredential"].contains(&key);
    let [all, one] = UNITS.map(|unit| settings(unit).into_iter().filter(|(key, _)| !differs(key)).collect::<Vec<_>>());
    assert_eq!(all, one);
    let seconds = |key: &str| all.iter().find(|(found, _)| found == key).unwrap().1.parse::<i64>().unwrap();
    assert!(seconds("TimeoutStopSec") > DRAIN_S);

    let home = tempfile::tempdir().unwrap();
    let roles = [("headwater.service", vec![]), ("headwater@.service", vec!["gateway", "ingest", "rollup", "api"])];
    for (unit, roles) in roles {
        let expanded = |value: &str| value.replace("%S", "/var/lib").replace("%d", "/run/credentials").replace("%E", "/etc");
        let words = settings(unit).into_iter().filter(|(key, _)| key == "Environment");
        let pairs: Vec<(String, String)> = words
            .flat_map(|(_, value)| value.split(' ').map(expanded).collect::<Vec<_>>())
            .map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
            .collect();
        let mut command = clean(HEADWATER);
        command.args(["config", "check"]).args(&roles).arg("--config").arg(deploy("systemd/headwater.toml")).envs(pairs);
        if !roles.is_empty() {
            command.envs([("HEADWATER_LOG__URL", "kafka://k/t"), ("HEADWATER_STORE__URL", "postgres://u@localhost/d")]);
        }
        let output = command.current_dir(home.path()).output().unwrap();
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The system calls that the filter of the unit lets through.
fn allowed_calls() -> BTreeSet<String> {
    let filters: Vec<String> =
        settings("headwater.service").into_iter().filter(|(key, _)| key == "SystemCallFilter").map(|(_, value)| value).collect();
    let [yes, no] = filters.try_into().expect("what is allowed, and what of that is not");
    let expand = |groups: &str| {
        let (mut calls, mut groups) = (BTreeSet::new(), groups.split(' ').map(str::to_owned).collect::<Vec<_>>());
        while let Some(group) = groups.pop() {
            if !group.starts_with('@') {
                calls.insert(group);
                continue;
            }
            let listed = systemd(&["syscall-filter", "--no-pager"], Path::new(&group));
            let words = listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            groups.extend(words.map(str::to_owned));
        }
        calls
    };
    let denied = expand(no.strip_prefix('~').expect("a list of what is denied"));
    expand(&yes).difference(&denied).cloned().collect()
}

#[test]
fn a_server_needs_no_system_call_that_the_unit_denies() {
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("calls");
    let strace = ["strace", "-D", "-f", "-c", "-q", "-o", trace.to_str().unwrap()];
    let mut stack = Builder::default().under(&strace).start();
    let mut journal = Journal::new("device", 9, 20);
    assert!((0..5).all(|_| journal.send(&stack)));
    stack.settled();
    stack.output(&["seal"]);
    stack.get("/v1/stats?from=1990-01-01T00:00:00Z").ok();
    assert_eq!(stack.stop(), 0);
    // The summary is written when the last thread has ended.
    let summary = crate::stack::wait_for("the list of calls", crate::stack::SOON, || {
        std::fs::read_to_string(&trace).ok().filter(|text| text.trim_end().ends_with("total"))
    });
    let calls = summary.lines().skip(2).filter_map(|line| line.split_whitespace().last());
    let calls: BTreeSet<&str> = calls.filter(|word| !word.starts_with('-') && *word != "total").collect();
    assert!(calls.len() > 30 && calls.contains("fsync"), "{summary}");
    let allowed = allowed_calls();
    let denied: Vec<_> = calls.into_iter().filter(|call| !allowed.contains(*call) && *call != ONLY_AS_ROOT).collect();
    assert_eq!(denied, [""; 0]);
}

#[test]
fn a_server_works_on_a_read_only_machine_without_any_capability() {
    let home = tempfile::Builder::new().prefix("headwater-it-").tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // As the unit does: everything is read-only but the state directory; /tmp and /home are not the machine's; no capability is left.
    let script = r#"
        set -e
        mount --bind "$1" "$1"
        mount -o remount,bind,ro /
        [ "$(stat -c %d /tmp)" = "$(stat -c %d /)" ] || mount -o remount,bind,ro /tmp
        mount -o remount,bind,rw "$1"
        shift
        if touch /usr/local/bin/touched 2>/dev/null; then echo "not read-only" >&2; exit 9; fi
        exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
    "#;
    let under = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", data.to_str().unwrap()];
    let mut stack = Builder::default().under(&under).start_in(home, "data");
    let mut journal = Journal::new("device", 10, 20);
    assert!((0..5).all(|_| journal.send(&stack)));
    stack.settled();
    stack.output(&["seal"]);
    crate::journal::check(&[&journal], &stack);
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid())).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("CapBnd:").as_str(), line("NoNewPrivs:").as_str()), ("0000000000000000", "1"));
    assert_eq!(stack.stop(), 0);
}

const FOLDERS: [&str; 2] = ["kubernetes/scaled", "kubernetes/embedded"];

/// All documents of a folder's manifests, which its kustomization names.
fn manifests(folder: &str) -> Vec<Yaml> {
    let load =
        |file: &str| YamlLoader::load_from_str(&text(&format!("{folder}/{file}"))).unwrap_or_else(|why| panic!("{folder}/{file}: {why}"));
    let kustomization = load("kustomization.yaml").remove(0);
    let named: BTreeSet<String> = strings(&kustomization["resources"]).into_iter().collect();
    let files = std::fs::read_dir(deploy(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = files.filter(|file| file != "kustomization.yaml").collect();
    assert_eq!(named, there, "{folder}");
    named.iter().flat_map(|file| load(file)).collect()
}

fn strings(list: &Yaml) -> Vec<String> {
    list.as_vec().into_iter().flatten().map(string).collect()
}

fn string(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => text.clone(),
        other => panic!("{other:?} is no text: Kubernetes refuses it here"),
    }
}

fn list(value: &Yaml) -> &[Yaml] {
    value.as_vec().map(Vec::as_slice).unwrap_or_default()
}

fn table(value: &Yaml) -> BTreeMap<String, Yaml> {
    value.as_hash().into_iter().flatten().map(|(key, value)| (string(key), value.clone())).collect()
}

/// The name, the pod's labels and the pod of each workload.
fn workloads(documents: &[Yaml]) -> Vec<(String, Yaml, Yaml)> {
    let kinds = ["Deployment", "StatefulSet"];
    let of_kind = documents.iter().filter(|document| kinds.contains(&document["kind"].as_str().unwrap()));
    of_kind
        .map(|workload| {
            let (name, template) = (string(&workload["metadata"]["name"]), &workload["spec"]["template"]);
            let labels = &template["metadata"]["labels"];
            assert_eq!(&workload["spec"]["selector"]["matchLabels"], labels, "{name} finds its own pods");
            (name, labels.clone(), template["spec"].clone())
        })
        .collect()
}

fn environment_of(container: &Yaml, documents: &[Yaml]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for source in list(&container["envFrom"]) {
        let name = string(&source["configMapRef"]["name"]);
        let map = documents
            .iter()
            .find(|document| document["kind"].as_str() == Some("ConfigMap") && document["metadata"]["name"].as_str() == Some(&name));
        let data = &map.unwrap_or_else(|| panic!("there is no ConfigMap {name}"))["data"];
        pairs.extend(table(data).into_iter().map(|(key, value)| (key, string(&value))));
    }
    for variable in list(&container["env"]) {
        let of_pod = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().map(|_| "headwater-0".to_owned());
        pairs.push((string(&variable["name"]), of_pod.unwrap_or_else(|| string(&variable["value"]))));
    }
    pairs
}

#[test]
fn every_container_has_a_configuration_that_the_program_takes() {
    for folder in FOLDERS {
        let documents = manifests(folder);
        for (name, _, pod) in workloads(&documents) {
            let container = &pod["containers"][0];
            let (args, pairs) = (strings(&container["args"]), environment_of(container, &documents));
            assert!(pairs.iter().all(|(key, _)| key.starts_with("HEADWATER_") && key.contains("__")), "{name}: {pairs:?}");
            let roles = match args[0].as_str() {
                "run" => &args[1..],
                other => {
                    assert_eq!((other, args.len()), ("up", 1), "{name}");
                    &[]
                }
            };
            let checked = clean(HEADWATER).args(["config", "check"]).args(roles).envs(pairs.iter().cloned()).output().unwrap();
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stdout));
            // What is read from a file is mounted there.
            let mounts: Vec<String> = list(&container["volumeMounts"]).iter().map(|mount| string(&mount["mountPath"])).collect();
            for (key, value) in pairs.iter().filter(|(key, _)| key.ends_with("_FILE") || key.ends_with("DATA_DIR")) {
                assert!(mounts.iter().any(|mount| Path::new(value).starts_with(mount)), "{name}: {key} = {value} is in none of {mounts:?}");
            }
            let listen = &pairs.iter().find(|(key, _)| key == "HEADWATER_HTTP__LISTEN").unwrap().1;
            let port = container["ports"][0]["containerPort"].as_i64().unwrap();
            assert_eq!(listen, &format!("0.0.0.0:{port}"), "{name}");
            let delay =
                pairs.iter().find(|(key, _)| key == "HEADWATER_HTTP__DRAIN_DELAY").unwrap().1.trim_end_matches('s').parse::<i64>().unwrap();
            let patience = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
            assert!(patience > delay + DRAIN_S, "{name}: {patience} s are shorter than {delay} + {DRAIN_S}");
        }
    }
}

#[test]
fn probes_ask_routes_that_there_are_on_ports_that_there_are() {
    for folder in FOLDERS {
        for (name, _, pod) in workloads(&manifests(folder)) {
            let container = &pod["containers"][0];
            let ports: Vec<String> = list(&container["ports"]).iter().map(|port| string(&port["name"])).collect();
            for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
                let get = &container[probe]["httpGet"];
                assert_eq!(get["path"].as_str(), Some(path), "{name}: {probe}");
                assert!(ROUTES.iter().any(|route| route.path == path && route.takes("GET")), "{path}");
                assert!(ports.contains(&string(&get["port"])), "{name}: {probe}");
            }
        }
    }
}

#[test]
fn pods_keep_to_the_restricted_profile_and_have_limits() {
    for folder in FOLDERS {
        let documents = manifests(folder);
        let namespace = documents.iter().find(|document| document["kind"].as_str() == Some("Namespace")).unwrap();
        assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].as_str(), Some("restricted"));
        for (name, _, pod) in workloads(&documents) {
            let security = &pod["securityContext"];
            assert_eq!(
                (security["runAsNonRoot"].as_bool(), security["seccompProfile"]["type"].as_str()),
                (Some(true), Some("RuntimeDefault")),
                "{name}"
            );
            assert!(security["runAsUser"].as_i64() > Some(0) && security["fsGroup"].as_i64() > Some(0), "{name}");
            assert_eq!(
                (pod["automountServiceAccountToken"].as_bool(), pod["enableServiceLinks"].as_bool()),
                (Some(false), Some(false)),
                "{name}"
            );
            let container = &pod["containers"][0];
            let security = &container["securityContext"];
            assert_eq!(
                (security["allowPrivilegeEscalation"].as_bool(), security["readOnlyRootFilesystem"].as_bool()),
                (Some(false), Some(true)),
                "{name}"
            );
            assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"], "{name}");
            for kind in ["requests", "limits"] {
                assert!(container["resources"][kind]["memory"].as_str().is_some(), "{name}: {kind}");
            }
            for volume in list(&pod["volumes"]) {
                assert!(volume["secret"]["secretName"].as_str().is_some() || !volume["emptyDir"].is_badvalue(), "{name}: {volume:?}");
            }
        }
    }
}

#[test]
fn services_and_budgets_find_their_pods_and_nothing_else() {
    for folder in FOLDERS {
        let documents = manifests(folder);
        let workloads = workloads(&documents);
        let find = |kind: &str, selector: fn(&Yaml) -> &Yaml| {
            for document in documents.iter().filter(|document| document["kind"].as_str() == Some(kind)) {
                let name = string(&document["metadata"]["name"]);
                assert_eq!(document["metadata"]["namespace"].as_str(), Some("headwater"), "{name}");
                let found: Vec<&(String, Yaml, Yaml)> = workloads.iter().filter(|(_, labels, _)| labels == selector(document)).collect();
                assert_eq!(found.iter().map(|(workload, ..)| workload).collect::<Vec<_>>(), [&name], "{kind} {name}");
                for port in list(&document["spec"]["ports"]) {
                    let target = string(&port["targetPort"]);
                    assert!(
                        list(&found[0].2["containers"][0]["ports"]).iter().any(|port| string(&port["name"]) == target),
                        "{name}: {target}"
                    );
                }
            }
        };
        find("Service", |service| &service["spec"]["selector"]);
        find("PodDisruptionBudget", |budget| &budget["spec"]["selector"]["matchLabels"]);
        for (name, ..) in workloads.iter().filter(|_| folder.ends_with("scaled")) {
            let kinds = documents
                .iter()
                .filter(|document| document["metadata"]["name"].as_str() == Some(name))
                .filter_map(|document| document["kind"].as_str());
            assert!(kinds.clone().any(|kind| kind == "PodDisruptionBudget") && kinds.clone().any(|kind| kind == "Service"), "{name}");
        }
    }
}
