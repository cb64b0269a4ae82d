//! The gate: who may pass to which handler.
//!
//! Owns: looking up the route in the table, reading credentials out of a request's head, and checking them. Does not know: what
//! a token is made of, the handlers.
//! Invariants: nothing of a body is read here; what is not in the table of this process reaches no handler; all bad credentials
//! get the same answer; an unknown path is 404 whatever is sent with it.

use crate::access::{Access, Errors, ROUTES, Route};
use crate::caller::{Caller, RequestId, Subject};
use crate::error::Error;
use crate::shell::are_told;
use crate::token::{Refused, Verifier};
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;

pub(crate) struct Gate {
    /// The lines of the table whose role runs here.
    pub(crate) routes: Arc<[Route]>,
    pub(crate) verifier: Arc<Verifier>,
}

/// Lets a request through to its handler, or not.
pub(crate) async fn enter(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Result<Response, Error> {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // No route has this path: what comes next is the fallback.
        return Ok(next.run(request).await);
    };
    let route = *find(&gate.routes, request.method().as_str(), path.as_str())?;
    gate.admit(&route, &mut request).await?;
    let subject = subject(&request);
    let mut response = next.run(request).await;
    if let Some(subject) = subject {
        response.extensions_mut().insert(subject);
    }
    Ok(response)
}

/// Who calls, where a line of log is written about every request.
fn subject(request: &Request) -> Option<Subject> {
    let caller = request.extensions().get::<Caller>().filter(|_| are_told())?;
    Some(Subject(caller.subject.clone()))
}

/// The line of the table that a request is about.
fn find<'a>(routes: &'a [Route], method: &str, path: &str) -> Result<&'a Route, Error> {
    if let Some(route) = routes.iter().find(|route| route.path == path && route.takes(method)) {
        return Ok(route);
    }
    let elsewhere = ROUTES.iter().any(|route| route.path == path && route.takes(method));
    let allowed = allowed(routes, path);
    if elsewhere || allowed.is_empty() {
        return Err(Error::not_found("not_found", "there is nothing at this path"));
    }
    Err(Error::method_not_allowed(&allowed))
}

/// The methods of a path, as `Allow` lists them.
pub(crate) fn allowed(routes: &[Route], path: &str) -> String {
    let mut methods = Vec::new();
    for route in routes.iter().filter(|route| route.path == path) {
        methods.push(route.method);
        if route.method == "GET" {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

impl Gate {
    /// Checks what `route` asks for and puts the caller into the request.
    async fn admit(&self, route: &Route, request: &mut Request) -> Result<(), Error> {
        let needed = match route.access {
            Access::Public => return Ok(()),
            Access::AnyToken => None,
            Access::Scope(scope) => Some(scope),
        };
        let token = match credentials(request.headers(), request.uri(), route.errors) {
            Sent::Token(token) => token,
            Sent::Nothing => return Err(Error::no_credentials()),
            Sent::Unusable => return Err(Error::invalid_token()),
        };
        let caller = self.verifier.admit(&token).await.map_err(|refused| {
            tracing::debug!(path = route.path, ?refused, "refused a token");
            match refused {
                // Nobody can say whether it is good; a device shall not throw its readings away for that.
                Refused::Unavailable => Error::busy("issuer_unavailable", "the keys of the token's issuer cannot be had at the moment", 5),
                _ => Error::invalid_token(),
            }
        })?;
        if let Some(scope) = needed.filter(|scope| !caller.scopes.has(*scope)) {
            let request_id = request.extensions().get::<RequestId>().map_or("", |id| id.0.as_str());
            tracing::info!(
                request.id = request_id,
                subject = caller.subject,
                method = route.method,
                path = route.path,
                %scope,
                "refused a token without the scope {scope}"
            );
            return Err(Error::insufficient_scope(scope));
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// What was sent as credentials.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Token(String),
    /// Something that cannot hold one token.
    Unusable,
}

/// The token of a request: from `Authorization` and, on the routes of InfluxDB's clients, in their ways too. The user name is
/// not looked at, as InfluxDB 3 does not: the token says who calls.
fn credentials(headers: &HeaderMap, uri: &Uri, errors: Errors) -> Sent {
    let influx = errors.are_influx();
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    match (sent.next(), sent.next()) {
        (Some(value), None) => value.to_str().map_or(Sent::Unusable, |value| of_header(value, influx)),
        (Some(_), Some(_)) => Sent::Unusable,
        (None, _) if influx => of_query(uri),
        (None, _) => Sent::Nothing,
    }
}

fn of_header(value: &str, influx: bool) -> Sent {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || (influx && scheme.eq_ignore_ascii_case("token")) {
        if rest.is_empty() { Sent::Unusable } else { Sent::Token(rest.to_owned()) }
    } else if influx && scheme.eq_ignore_ascii_case("basic") {
        password(rest).map_or(Sent::Unusable, Sent::Token)
    } else {
        // Another scheme is no credential of ours: the answer says what is.
        Sent::Nothing
    }
}

/// The password of HTTP's Basic scheme.
fn password(encoded: &str) -> Option<String> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// The password in the query, as InfluxDB 1 takes it. The query is never logged.
fn of_query(uri: &Uri) -> Sent {
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Sent::Nothing;
    };
    let mut passwords = pairs.into_iter().filter(|(name, value)| name == "p" && !value.is_empty()).map(|(_, value)| value);
    match (passwords.next(), passwords.next()) {
        (Some(token), None) => Sent::Token(token),
        (Some(_), Some(_)) => Sent::Unusable,
        (None, _) => Sent::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn sent(header: Option<&str>, uri: &str, errors: Errors) -> Sent {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        }
        credentials(&headers, &uri.parse().unwrap(), errors)
    }

    #[test]
    fn credentials_are_found_where_each_kind_of_client_puts_them() {
        let token = || Sent::Token("a.b.c".to_owned());
        let basic = format!("Basic {}", BASE64_STANDARD.encode("user:a.b.c"));
        assert_eq!(sent(Some("Bearer a.b.c"), "/", Errors::Problem), token());
        assert_eq!(sent(Some("bearer  a.b.c "), "/", Errors::Problem), token());
        for errors in [Errors::InfluxV1, Errors::InfluxV2] {
            assert_eq!(sent(Some("Bearer a.b.c"), "/", errors), token());
            assert_eq!(sent(Some("Token a.b.c"), "/", errors), token());
            assert_eq!(sent(Some(&basic), "/", errors), token());
            assert_eq!(sent(None, "/write?u=me&p=a.b%2Ec&db=x", errors), token());
        }
        assert_eq!(sent(Some("Bearer a.b.c"), "/write?p=other", Errors::InfluxV1), token());
    }

    #[test]
    fn influx_ways_work_on_influx_routes_alone() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode("user:a.b.c"));
        for (header, uri) in [(Some("Token a.b.c"), "/"), (Some(basic.as_str()), "/"), (None, "/?u=me&p=a.b.c"), (None, "/?access_token=a")]
        {
            assert_eq!(sent(header, uri, Errors::Problem), Sent::Nothing, "{header:?} {uri}");
        }
    }

    #[test]
    fn what_cannot_be_one_token_is_unusable() {
        for header in ["Bearer", "Bearer ", "Basic !!!", "Basic dXNlcg==", "Basic dXNlcjo=", "Token "] {
            assert_eq!(sent(Some(header), "/", Errors::InfluxV1), Sent::Unusable, "{header}");
        }
        assert_eq!(sent(None, "/write?p=a&p=b", Errors::InfluxV1), Sent::Unusable);
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(credentials(&two, &"/".parse().unwrap(), Errors::Problem), Sent::Unusable);
    }

    #[test]
    fn a_route_of_a_role_that_does_not_run_here_is_not_found() {
        let api: Vec<Route> = ROUTES.iter().filter(|route| route.role == "api").copied().collect();
        assert!(find(&api, "GET", "/v1/readings").is_ok() && find(&api, "HEAD", "/v1/readings").is_ok());
        assert_eq!(find(&api, "POST", "/v1/readings").unwrap_err().status().as_u16(), 404);
        assert_eq!(find(&api, "PUT", "/v1/readings").unwrap_err().status().as_u16(), 405);
        assert_eq!(find(&api, "POST", "/write").unwrap_err().status().as_u16(), 404);
        assert_eq!(allowed(ROUTES, "/v1/readings"), "POST, GET, HEAD");
    }
}
