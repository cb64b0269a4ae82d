//! The faces of the roles, and how they become one application.
//!
//! Owns: [`Face`], [`Probe`], [`app`]. Does not know: what a role does.

use crate::access::{ROUTES, Route};
use crate::config::Config;
use crate::documentation;
use crate::error::Error;
use crate::gate::{self, Gate};
use crate::metrics::Requests;
use crate::probes::{self, Probes};
use crate::scrape::{self, Scrape};
use crate::shell::{self, Shell};
use crate::token::Verifier;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use headwater_core::BoxFuture;
use headwater_core::health::Health;
use headwater_core::metrics::Registry;
use std::sync::Arc;

/// What a role shows to the outside.
pub struct Face {
    /// The role's name as the table of routes has it.
    pub role: &'static str,
    /// Its routes, without a fallback of its own. Faces may share a path where their methods differ.
    pub router: Router,
    /// What must work for the role to be ready.
    pub probes: Vec<Probe>,
}

/// A check that `/readyz` runs.
#[derive(Clone)]
pub struct Probe {
    /// What is checked.
    pub name: &'static str,
    /// The check; an error says, in public words, what does not work. It is given two seconds.
    pub check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl Probe {
    /// A probe from a function.
    pub fn new<F>(name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, check: Arc::new(move || Box::pin(check())) }
    }
}

/// The whole application: the routes of the faces and the probes, behind the gate (credentials and scope, before anything of a
/// body is read), inside the shell (request ids, limits on bodies, draining, panics, the wording of errors).
///
/// # Panics
/// When two faces have the same method of the same path, or a face has a fallback: a mistake in the program, seen at its start.
pub fn app(faces: Vec<Face>, verifier: Arc<Verifier>, health: Health, config: &Config) -> Router {
    app_with(faces, verifier, health, config, Registry::default())
}

/// [`app`], with what else of the process `/metrics` shall show. Nothing can be registered any more.
///
/// # Panics
/// As [`app`].
pub fn app_with(faces: Vec<Face>, verifier: Arc<Verifier>, health: Health, config: &Config, mut registry: Registry) -> Router {
    let roles: Vec<&'static str> = faces.iter().map(|face| face.role).chain(["web"]).collect();
    let probes = faces.iter().flat_map(|face| face.probes.iter().cloned()).collect();
    let readiness = Arc::new(Probes::new(probes, health.clone()));
    let routes: Arc<[Route]> = ROUTES.iter().filter(|route| roles.contains(&route.role)).copied().collect();
    let shell = Arc::new(Shell::new(Arc::clone(&routes), Requests::new(&mut registry, &routes), config, health));
    let own = Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz).with_state(readiness))
        .route("/metrics", get(scrape::metrics).with_state(Arc::new(Scrape::new(registry))))
        .merge(documentation::routes());
    faces
        .into_iter()
        .fold(own, |all, face| all.merge(face.router))
        .fallback(|| async { Error::not_found("not_found", "there is nothing at this path") })
        .layer(from_fn_with_state(Arc::new(Gate { routes, verifier }), gate::enter))
        .layer(from_fn_with_state(shell, shell::wrap))
}

/// What a server shows before it can do anything: the probes, and 503 for everything else.
pub fn waiting(health: Health, config: &Config) -> Router {
    let readiness = Arc::new(Probes::new(Vec::new(), health.clone()));
    let (mut registry, routes) = (Registry::default(), Arc::<[Route]>::from(ROUTES));
    let shell = Arc::new(Shell::new(Arc::clone(&routes), Requests::new(&mut registry, &routes), config, health));
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz).with_state(readiness))
        .fallback(|| async { Error::busy("starting", "the server is waiting for what it works with", 2) })
        .layer(from_fn_with_state(shell, shell::wrap))
}
