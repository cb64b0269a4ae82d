//! The built-in issuer over HTTP: tokens for clients that show a secret (RFC 6749 §4.4), and the public keys (RFC 7517).
//!
//! Owns: [`face`] with `POST /v1/token` and `GET /.well-known/jwks.json`, [`ClientConfig`] (an entry of `[[auth.clients]]`).
//! Does not know: what makes a token good, how keys are rotated.
//! Invariants: of a secret only its hash is kept, and it is compared in constant time, for a client that does not exist too;
//! who guesses is slowed down before anything is compared; nothing of a secret or a token is logged.

mod clients;
mod guesses;
mod request;

pub use clients::ClientConfig;

use crate::access::Scopes;
use crate::budget::Budget;
use crate::caller::Peer;
use crate::error::Error;
use crate::face::Face;
use crate::ring::Ring;
use crate::token::Grant;
use anyhow::{Context, Result};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, extract};
use clients::{Client, Clients};
use guesses::Guesses;
use headwater_core::clock::Clock;
use request::Wanted;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A request for a token has some hundred bytes.
const MOST_BYTES: usize = 16 * 1024;
/// Requests that are read at once, times their size.
const BUDGET_BYTES: usize = 4 << 20;
const WAIT: Duration = Duration::from_secs(1);
/// How long others may keep our public keys: a new one is told to them soon.
const KEYS_GOOD_FOR: &str = "public, max-age=300";

/// What the issuer needs.
pub struct Deps {
    /// The keys.
    pub ring: Arc<Ring>,
    /// The time that tokens are good from.
    pub clock: Arc<dyn Clock>,
    /// `iss` of tokens.
    pub issuer: String,
    /// `aud` of tokens.
    pub audience: String,
    /// Who may have tokens.
    pub clients: Vec<ClientConfig>,
}

struct Desk {
    ring: Arc<Ring>,
    clock: Arc<dyn Clock>,
    issuer: String,
    audience: String,
    clients: Clients,
    guesses: Guesses,
    budget: Arc<Budget>,
}

/// The face of the issuer. Where only public keys are at hand it has no `/v1/token`.
///
/// # Errors
/// A client's secret cannot be read; its file is named.
pub fn face(deps: Deps) -> Result<Face> {
    let Deps { ring, clock, issuer, audience, clients } = deps;
    let clients = Clients::open(clients).context("read the secrets of auth.clients")?;
    let signs = ring.signs();
    let budget = Budget::new(BUDGET_BYTES, "requests for tokens");
    let desk = Arc::new(Desk { ring, clock, issuer, audience, clients, guesses: Guesses::default(), budget });
    let mut router = Router::new().route("/.well-known/jwks.json", get(jwks));
    if signs {
        router = router.route("/v1/token", post(token));
    }
    Ok(Face { role: "issuer", router: router.with_state(desk), probes: Vec::new() })
}

async fn jwks(State(desk): State<Arc<Desk>>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, KEYS_GOOD_FOR)];
    (headers, desk.ring.jwks(desk.clock.now()).to_string()).into_response()
}

async fn token(State(desk): State<Arc<Desk>>, request: extract::Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wanted = desk.read(&parts.headers, body).await?;
    let client = desk.known(&wanted, &parts.extensions, parts.headers.contains_key(AUTHORIZATION))?;
    let scopes = allowed(client, wanted.scope.as_deref())?;
    desk.issue(client, scopes)
}

impl Desk {
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Wanted, Error> {
        request::check_type(headers)?;
        let mut reservation = self.budget.reserve(0, WAIT).await?;
        let body = crate::read_body(body, MOST_BYTES, &mut reservation).await?;
        Wanted::read(headers, &body)
    }

    /// The client that this is, by its secret.
    fn known(&self, wanted: &Wanted, extensions: &Extensions, by_header: bool) -> Result<&Client, Error> {
        // Strangers share one account of guesses, so that nobody fills the table with names.
        let name = self.clients.get(&wanted.client_id).map(|_| wanted.client_id.as_str());
        let address = extensions.get::<Peer>().map(|peer| peer.0);
        if let Some(wait_s) = self.guesses.must_wait(address, name) {
            let detail = "too many wrong secrets came from there; wait before trying again";
            return Err(Error::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", detail).retry_after(wait_s));
        }
        if let Some(client) = self.clients.verify(&wanted.client_id, &wanted.secret) {
            return Ok(client);
        }
        self.guesses.wrong(address, name);
        tracing::info!(client = name.unwrap_or("a stranger"), "refused a token to a client with a wrong secret");
        let refused = Error::new(StatusCode::UNAUTHORIZED, "invalid_client", "there is no such client, or its secret is another");
        let challenge = HeaderValue::from_static(r#"Basic realm="headwater", charset="UTF-8""#);
        Err(if by_header { refused.header(WWW_AUTHENTICATE, challenge) } else { refused })
    }

    fn issue(&self, client: &Client, scopes: Scopes) -> Result<Response, Error> {
        let grant = Grant {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            subject: client.id.clone(),
            scopes,
            devices: client.devices.clone(),
            ttl: client.ttl,
        };
        let signed = self.ring.with_signing(|key| key.sign(&grant, self.clock.now()));
        let token = signed.context("the key that signs is gone").flatten().map_err(Error::internal)?;
        tracing::info!(client = client.id, %scopes, ttl_s = client.ttl.as_secs(), "issued a token to {}", client.id);
        let body =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": client.ttl.as_secs(), "scope": scopes.to_string() });
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
        Ok((headers, body.to_string()).into_response())
    }
}

/// What of a client's scopes was asked for; all, if nothing was.
fn allowed(client: &Client, asked: Option<&str>) -> Result<Scopes, Error> {
    let refused = |why: String| Error::bad_request("invalid_scope", why);
    let Some(asked) = asked else { return Ok(client.scopes) };
    let scopes = Scopes::parse(asked).map_err(|_| refused("scope names what is no scope".to_owned()))?;
    match crate::Scope::ALL.into_iter().find(|scope| scopes.lists(*scope) && !client.scopes.has(*scope)) {
        Some(scope) => Err(refused(format!("this client may not have {scope}"))),
        None if scopes.is_empty() => Err(refused("scope is empty".to_owned())),
        None => Ok(scopes),
    }
}

#[cfg(test)]
mod tests;
