//! The API's document against the table of routes, the codes of the sources, and the page that shows it.

use crate::support::{app, ask, face};
use headwater_core::dead_letter::Reason;
use headwater_web::{Access, Config, Errors, ROUTES, Route, Scope};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The document as a process sends it that runs nothing but what every process runs.
pub(crate) async fn document() -> Value {
    let (status, head, body) = ask(&app(vec![], &Config::default()), "GET", "/openapi.json", &[]).await;
    assert_eq!((status, head.headers()["content-type"].to_str().unwrap()), (200, "application/json"));
    serde_json::from_str(&body).unwrap()
}

/// What a pointer (`#/…`) leads to.
pub(crate) fn at<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let place = document.pointer(reference.strip_prefix('#').unwrap());
    place.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// The value itself, or what its `$ref` leads to.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| at(document, reference))
}

/// Every operation with its method, in capitals, and its path.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &'_ Value)| -> Vec<(String, String)> {
        item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    let named = paths.iter().flat_map(of_path);
    named
        .map(|(method, path)| {
            let operation = &document["paths"][&path][method.to_lowercase()];
            (method, path, operation)
        })
        .collect()
}

fn route(method: &str, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}

fn names(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

fn words(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = document().await;
    let written: BTreeSet<(String, String)> = operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let table: BTreeSet<(String, String)> = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    let missing: Vec<_> = table.difference(&written).collect();
    let invented: Vec<_> = written.difference(&table).collect();
    assert!(missing.is_empty() && invented.is_empty(), "crates/web/openapi lacks {missing:?} and has, beside the table, {invented:?}");
}

#[tokio::test]
async fn an_operation_asks_for_what_its_route_asks_for() {
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let route = route(&method, &path).unwrap();
        let asked: BTreeMap<&str, &Value> = operation["security"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|way| way.as_object().unwrap())
            .map(|(name, scopes)| (name.as_str(), scopes))
            .collect();
        let ways: BTreeSet<&str> = asked.keys().copied().collect();
        let expected: &[&str] = match (route.access, route.errors) {
            (Access::Public, Errors::OAuth) => &["client"],
            (Access::Public, _) => &[],
            (_, errors) if errors.are_influx() => &["bearer", "oauth2", "influxToken", "influxBasic", "influxPassword"],
            _ => &["bearer", "oauth2"],
        };
        assert_eq!(ways, expected.iter().copied().collect(), "{method} {path}");
        for way in ["bearer", "oauth2"].into_iter().filter(|way| ways.contains(way)) {
            let scopes = match route.access {
                Access::Scope(scope) => vec![scope.as_str()],
                _ => vec![],
            };
            assert_eq!(*asked[way], serde_json::json!(scopes), "{method} {path} by {way}");
        }
    }
    let scopes = names(&document["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]["scopes"]);
    assert_eq!(scopes, Scope::ALL.into_iter().map(Scope::as_str).collect());
}

#[tokio::test]
async fn every_operation_says_what_it_is_and_what_can_come_of_it() {
    let document = document().await;
    let tags: BTreeSet<&str> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{what}: its operationId stands twice");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{what}");
        assert!(operation["tags"].as_array().is_some_and(|of| of.len() == 1 && tags.contains(of[0].as_str().unwrap())), "{what}");
        let route = route(&method, &path).unwrap();
        let answers = names(&operation["responses"]);
        let has = |statuses: &[&str]| statuses.iter().all(|status| answers.contains(status));
        assert!(has(&["405", "431"]), "{what}");
        assert!(route.role == "web" || has(&["500"]), "{what}");
        assert!(matches!(route.role, "web" | "issuer" | "process") || has(&["404"]), "{what}: its role may run elsewhere");
        assert!(route.access == Access::Public || has(&["401", "503"]), "{what}: the gate's answers");
        assert!(!matches!(route.access, Access::Scope(_)) || has(&["403"]), "{what}: the gate's answers");
        assert!(operation["requestBody"].is_null() || has(&["400", "408", "413", "503"]), "{what}: the answers to a body");
        for (status, answer) in operation["responses"].as_object().unwrap() {
            check_answer(&document, route, status, resolved(&document, answer));
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            check_parameter(&what, &path, resolved(&document, parameter));
        }
    }
}

fn check_answer(document: &Value, route: &Route, status: &str, answer: &Value) {
    let what = format!("{} {} {status}", route.method, route.path);
    assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
    if status == "431" {
        // hyper's own answer, given before there is a request.
        return assert!(answer["headers"].is_null() && answer["content"].is_null(), "{what}");
    }
    let is_required = |name: &str| resolved(document, &answer["headers"][name])["required"] == true;
    assert!(is_required("X-Request-Id"), "{what}");
    assert_eq!(is_required("X-Influxdb-Version"), route.errors.are_influx() && status != "404", "{what}");
    assert!(!matches!(status, "429" | "503") || is_required("Retry-After") || route.access == Access::Public, "{what}");
    assert!(status != "401" || is_required("WWW-Authenticate") || route.errors == Errors::OAuth, "{what}");
    assert!(status != "405" || is_required("Allow"), "{what}");
    let media = names(&answer["content"]);
    assert_eq!(media.is_empty(), matches!(status, "204" | "304"), "{what}");
    if status.starts_with('4') || status == "500" {
        // Who has no such route does not know its form.
        let form = if status == "404" { Errors::Problem } else { route.errors };
        let expected = if form == Errors::Problem { "application/problem+json" } else { "application/json" };
        assert_eq!(media, BTreeSet::from([expected]), "{what}");
    }
}

fn check_parameter(what: &str, path: &str, parameter: &Value) {
    let name = parameter["name"].as_str().unwrap();
    assert!(parameter["description"].as_str().is_some_and(|text| text.ends_with('.')), "{what} {name}");
    assert!(parameter["schema"].is_object(), "{what} {name}");
    assert!(parameter["examples"].is_object() || name == "cursor", "{what} {name}: an example (a cursor belongs to one server)");
    assert_eq!(parameter["in"] == "path", path.contains(&format!("{{{name}}}")), "{what} {name}");
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_nothing_lies_about_unused() {
    fn walk<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = document().await;
    let mut found = BTreeSet::new();
    walk(&document, &mut found);
    found.iter().for_each(|reference| drop(at(&document, reference).to_string()));
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in names(components) {
            let reference = format!("#/components/{kind}/{name}");
            assert!(kind == "securitySchemes" || found.contains(reference.as_str()), "nothing needs {reference}");
        }
    }
    let ids: Vec<&Value> = operations(&document).into_iter().map(|(.., operation)| &operation["operationId"]).collect();
    for (.., operation) in operations(&document) {
        for answer in operation["responses"].as_object().unwrap().values() {
            for link in answer["links"].as_object().into_iter().flat_map(Map::values) {
                assert!(ids.contains(&&link["operationId"]), "{link}");
            }
        }
    }
}

#[tokio::test]
async fn the_codes_of_the_document_are_those_of_the_sources() {
    let document = document().await;
    let schemas = &document["components"]["schemas"];
    assert_eq!(words(&schemas["Reason"]["enum"]), Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    let mut in_sources = BTreeSet::new();
    for role in ["web", "gateway", "api", "rollup"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(role).join("src"), &mut |text| in_sources.extend(codes(text)));
    }
    let oauth = words(&schemas["OAuthError"]["properties"]["error"]["enum"]);
    let problems = words(&schemas["Code"]["enum"]);
    let in_sources: BTreeSet<&str> = in_sources.iter().map(String::as_str).collect();
    // InfluxDB's routes answer without these.
    let never_shown = BTreeSet::from(["invalid_query", "invalid_form", "missing_parameter", "partial_write"]);
    let documented: BTreeSet<&str> = oauth.union(&problems).chain(&never_shown).copied().collect();
    let missing: Vec<_> = in_sources.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&in_sources).collect();
    assert!(missing.is_empty() && gone.is_empty(), "crates/web/openapi/schemas.json lacks the codes {missing:?} and still has {gone:?}");
    // And each is told where it comes, those of every route in the head of the document.
    let anywhere = ["starting", "transfer_encoding"];
    let head = document["info"]["description"].as_str().unwrap();
    assert!(anywhere.iter().all(|code| head.contains(&format!("`{code}`"))), "{head}");
    let told: BTreeSet<&str> = operations(&document)
        .into_iter()
        .flat_map(|(.., operation)| operation["responses"].as_object().unwrap().values())
        .map(|answer| &resolved(&document, answer)["content"]["application/problem+json"]["schema"]["properties"]["code"])
        .flat_map(|code| words(&code["enum"]).into_iter().chain(code["const"].as_str()))
        .chain(anywhere)
        .collect();
    assert_eq!(told, problems, "what the answers name, and the list of all codes");
}

/// Calls `each` with every source of a folder, but for its tests.
fn sources(folder: &Path, each: &mut impl FnMut(&str)) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        match path.file_name().and_then(|name| name.to_str()).unwrap() {
            "tests" | "tests.rs" | "testing.rs" => {}
            _ if path.is_dir() => sources(&path, each),
            _ => each(std::fs::read_to_string(&path).unwrap().split("\n#[cfg(test)]\nmod tests {").next().unwrap()),
        }
    }
}

/// The codes that a source makes errors with: the first text after the name of a constructor that takes one.
fn codes(source: &str) -> Vec<String> {
    const MAKERS: [&str; 8] = [
        "Error::new(",
        "Self::new(",
        "::bad_request(",
        "::forbidden(",
        "::not_found(",
        "::unsupported_media(",
        "::unprocessable(",
        "::busy(",
    ];
    let is_code = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let after = |maker: &str| -> Vec<String> {
        let rest_of_calls = source.split(maker).skip(1);
        rest_of_calls.filter_map(|rest| rest.split(';').next()?.split('"').nth(1)).filter(is_code).map(str::to_owned).collect()
    };
    MAKERS.into_iter().flat_map(after).collect()
}

#[tokio::test]
async fn every_process_sends_the_same_document_and_says_when_it_is_known() {
    let api = app(vec![face("api")], &Config::default());
    let gateway = app(vec![face("gateway"), face("issuer")], &Config::default());
    let (_, head, body) = ask(&api, "GET", "/openapi.json", &[]).await;
    assert_eq!(ask(&gateway, "GET", "/openapi.json", &[]).await.2, body);
    let tag = head.headers()["etag"].to_str().unwrap();
    for known in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let (status, head, body) = ask(&gateway, "GET", "/openapi.json", &[("if-none-match", &known)]).await;
        assert_eq!((status, body.as_str(), head.headers()["etag"].to_str().unwrap()), (304, "", tag), "{known}");
    }
    for (method, known, expected) in [("GET", "\"x\"", 200), ("HEAD", tag, 304), ("HEAD", "", 200), ("POST", "", 405)] {
        assert_eq!(ask(&api, method, "/openapi.json", &[("if-none-match", known)]).await.0, expected, "{method} {known}");
    }
}

#[tokio::test]
async fn the_page_loads_what_is_here_and_nothing_else() {
    let app = app(vec![], &Config::default());
    let (status, head, page) = ask(&app, "GET", "/docs", &[]).await;
    assert_eq!((status, head.headers()["content-type"].to_str().unwrap()), (200, "text/html; charset=utf-8"));
    let policy = head.headers()["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|has| has == part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let attributes =
        |name: &str| -> Vec<&str> { page.split(&format!("{name}=\"")).skip(1).map(|rest| rest.split('"').next().unwrap()).collect() };
    let loaded: BTreeSet<&str> =
        attributes("href").into_iter().chain(attributes("src")).filter(|target| !target.starts_with('#')).collect();
    assert_eq!(loaded, BTreeSet::from(["data:,", "docs/page.css", "docs/page.js", "openapi.json"]));
    // What the policy would refuse: scripts and styles within the page.
    assert_eq!(page.matches("<script").count(), page.matches("<script src=").count());
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
    for (path, media) in [("/docs/page.css", "text/css; charset=utf-8"), ("/docs/page.js", "text/javascript; charset=utf-8")] {
        let (status, head, body) = ask(&app, "GET", path, &[]).await;
        assert_eq!((status, head.headers()["content-type"].to_str().unwrap()), (200, media));
        assert_eq!(head.headers()["x-content-type-options"], "nosniff");
        assert!(!body.contains("http://") && !body.contains("https://") && !body.contains("@import"), "{path} asks somebody else");
    }
}
