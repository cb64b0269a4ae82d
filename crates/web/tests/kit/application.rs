//! Who gets where, and how errors are worded.

use crate::support::{app, ask, busy_face, dummies, face, token};
use axum::Router;
use axum::routing::{delete, get};
use headwater_core::health::Health;
use headwater_web::{Access, Config, Face, ROUTES, Scope, Scopes};
use serde_json::Value;

/// A path that matches a route.
fn path(template: &str) -> String {
    template.replace("{id}", "0193")
}

#[tokio::test]
async fn every_route_lets_exactly_those_in_whom_the_table_names() {
    let app = dummies();
    for route in ROUTES {
        let path = path(route.path);
        let (none, head, _) = ask(&app, route.method, &path, &[]).await;
        let bad = ask(&app, route.method, &path, &[("authorization", "Bearer a.b.c")]).await.0;
        if route.access == Access::Public {
            assert_eq!((none, bad), (200, 200), "{route:?} takes everybody");
            continue;
        }
        assert_eq!((none, bad), (401, 401), "{route:?} takes nobody without a token");
        assert_eq!(head.headers()["www-authenticate"], r#"Bearer realm="headwater""#);
        for scope in Scope::ALL {
            let bearer = format!("Bearer {}", token(scope.as_str()));
            let (status, head, _) = ask(&app, route.method, &path, &[("authorization", &bearer)]).await;
            let wanted = match route.access {
                Access::Scope(wanted) => Scopes::from(scope).has(wanted),
                _ => true,
            };
            assert_eq!(status, if wanted { 200 } else { 403 }, "{route:?} with {scope}");
            if let (403, Access::Scope(wanted)) = (status, route.access) {
                let challenge = head.headers()["www-authenticate"].to_str().unwrap();
                assert!(challenge.contains(&format!(r#"error="insufficient_scope", scope="{wanted}""#)), "{challenge}");
            }
        }
        let bearer = format!("Bearer {}", token(""));
        let status = ask(&app, route.method, &path, &[("authorization", &bearer)]).await.0;
        assert_eq!(status, if route.access == Access::AnyToken { 200 } else { 403 }, "{route:?} without a scope");
    }
}

#[tokio::test]
async fn a_handler_that_is_not_in_the_table_is_never_reached() {
    let unlisted = Router::new().route("/v1/secret", get(|| async { "reached" })).route("/v1/stats", delete(|| async { "reached" }));
    let app = app(vec![Face { role: "other", router: unlisted, probes: vec![] }, face("api")], &Config::default());
    let bearer = format!("Bearer {}", token("admin"));
    let admin = [("authorization", bearer.as_str())];
    assert_eq!(ask(&app, "GET", "/v1/secret", &admin).await.0, 404);
    let (status, head, _) = ask(&app, "DELETE", "/v1/stats", &admin).await;
    assert_eq!((status, head.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    assert_eq!(ask(&app, "GET", "/v1/stats", &admin).await.0, 200);
    // A method by override is the method that was sent.
    let overridden = [("authorization", bearer.as_str()), ("x-http-method-override", "GET")];
    assert_eq!(ask(&app, "POST", "/v1/stats", &overridden).await.0, 405);
}

#[tokio::test]
async fn an_unknown_route_is_404_with_or_without_a_token() {
    let app = dummies();
    let bearer = format!("Bearer {}", token("admin"));
    for path in ["/", "/v1", "/v1/nothing", "/v1/stats/", "/V1/stats", "//v1/stats", "/v1/dead-letters/a/b", "/v1/%2e%2e/livez"] {
        for headers in [&[][..], &[("authorization", bearer.as_str())], &[("authorization", "Bearer x")]] {
            let (status, head, body) = ask(&app, "GET", path, headers).await;
            assert_eq!(status, 404, "{path}");
            assert_eq!(head.headers()["content-type"], "application/problem+json");
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "not_found");
        }
    }
    // A role that does not run here has no routes here.
    let gateway = crate::support::app(vec![face("gateway")], &Config::default());
    for (method, path) in [("GET", "/v1/stats"), ("GET", "/v1/readings")] {
        assert_eq!(ask(&gateway, method, path, &[("authorization", &bearer)]).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_and_says_what_would_be_right() {
    let app = dummies();
    for (method, path, allow) in [
        ("PUT", "/v1/readings", "POST, GET, HEAD"),
        ("GET", "/write", "POST"),
        ("POST", "/readyz", "GET, HEAD"),
        ("OPTIONS", "/v1/stats", "GET, HEAD"),
    ] {
        let (status, head, _) = ask(&app, method, path, &[]).await;
        assert_eq!((status, head.headers()["allow"].to_str().unwrap()), (405, allow), "{method} {path}");
    }
    // In the table, but a face forgot its handler.
    let lacking = Face { role: "gateway", router: Router::new().route("/query", get(|| async { "ok" })), probes: vec![] };
    let app = crate::support::app(vec![lacking], &Config::default());
    let (status, _, body) = ask(&app, "POST", "/query", &[]).await;
    assert_eq!(status, 405);
    assert!(body.contains("error"), "{body}");
}

#[tokio::test]
async fn all_bad_tokens_get_the_same_answer() {
    let app = dummies();
    let good = token("read:stats");
    let truncated = &good[..good.len() - 4];
    let mut answers = Vec::new();
    for bad in ["x", "a.b.c", truncated, &"a".repeat(20_000), "eyJhbGciOiJub25lIn0.e30."] {
        let bearer = format!("Bearer {bad}");
        let (status, head, body) = ask(&app, "GET", "/v1/stats", &[("authorization", &bearer)]).await;
        answers.push((status, head.headers()["www-authenticate"].clone(), body));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert!(answers[0].1.to_str().unwrap().contains(r#"error="invalid_token""#));
}

#[tokio::test]
async fn influx_clients_get_their_own_words_and_may_use_their_own_ways() {
    let app = dummies();
    let good = token("write:readings");
    let (status, head, body) = ask(&app, "POST", "/api/v2/write?bucket=b", &[]).await;
    assert_eq!(status, 401);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "unauthorized");
    assert!(head.headers().contains_key("x-influxdb-error") && head.headers().contains_key("www-authenticate"));
    let (status, _, body) = ask(&app, "POST", "/write?db=b&u=x&p=bad", &[]).await;
    assert_eq!(status, 401);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string(), "{body}");
    assert_eq!(ask(&app, "POST", &format!("/write?db=b&u=x&p={good}"), &[]).await.0, 200);
    assert_eq!(ask(&app, "POST", "/api/v2/write", &[("authorization", &format!("Token {good}"))]).await.0, 200);
    for route in ROUTES {
        let (_, head, _) = ask(&app, route.method, &path(route.path), &[]).await;
        assert_eq!(head.headers().contains_key("x-influxdb-version"), route.errors.are_influx(), "{route:?}");
    }
}

#[tokio::test]
async fn every_answer_carries_a_request_id() {
    let app = dummies();
    for path in ["/livez", "/readyz", "/nothing", "/v1/stats", "/write", "/ping"] {
        let (_, head, _) = ask(&app, "GET", path, &[("x-request-id", "mine-1")]).await;
        assert_eq!(head.headers()["x-request-id"], "mine-1", "{path}");
        let (_, head, _) = ask(&app, "GET", path, &[("x-request-id", "not sane")]).await;
        assert!(head.headers()["x-request-id"].to_str().unwrap().len() > 30, "{path}");
    }
    let (_, head, body) = ask(&app, "GET", "/ping", &[]).await;
    assert_eq!(body, format!("ok {}", head.headers()["x-request-id"].to_str().unwrap()), "the handler sees the same");
}

#[tokio::test]
async fn a_handler_that_breaks_is_500_and_says_nothing_of_why() {
    let app = app(vec![busy_face(Default::default())], &Config::default());
    for path in ["/query", "/health"] {
        let (status, head, body) = ask(&app, "GET", path, &[]).await;
        assert_eq!(status, 500, "{path}");
        assert!(!format!("{head:?} {body}").contains("secret"), "{path} {body}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let app = dummies();
    let (status, head, body) = ask(&app, "HEAD", "/livez", &[]).await;
    assert_eq!((status, head.headers()["content-length"].to_str().unwrap(), body.as_str()), (200, "3", ""));
    let (status, head, body) = ask(&app, "HEAD", "/v1/stats", &[]).await;
    assert_eq!((status, body.as_str()), (401, ""));
    assert_ne!(head.headers()["content-length"], "0");
    assert_eq!(ask(&app, "HEAD", "/nothing", &[]).await.0, 404);
}

#[tokio::test]
async fn ready_is_what_works_and_alive_is_all_that_runs() {
    let health = Health::default();
    let mut api = face("api");
    api.probes.push(headwater_web::Probe::new("store", || async { Ok(()) }));
    let app = headwater_web::app(vec![api], crate::support::verifier(), health.clone(), &Config::default());
    let (status, _, body) = ask(&app, "GET", "/readyz?verbose", &[]).await;
    assert_eq!((status, body.as_str()), (200, "[+] store ok\nok\n"));
    health.waiting("ingest", "waiting for the store");
    let (status, _, body) = ask(&app, "GET", "/readyz", &[]).await;
    assert_eq!((status, body.as_str()), (503, "[-] ingest: waiting for the store\nnot ready\n"));
    assert_eq!(ask(&app, "GET", "/livez", &[]).await.0, 200);
    health.working("ingest");
    assert_eq!(ask(&app, "GET", "/readyz", &[]).await.0, 200);
}
