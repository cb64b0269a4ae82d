//! Who calls: what a handler may know of a request's credentials, and the id by which people find a request again.
//!
//! Owns: [`Caller`], [`RequestId`], [`Traced`], `Peer`. The first three are put into the request by the layers of [`crate::app`] and taken by handlers as arguments.

use crate::access::Scopes;
use crate::error::Error;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use headwater_core::glob::DevicePatterns;
use headwater_core::trace::Context;
use std::convert::Infallible;
use std::net::IpAddr;

/// Who calls, as the token says; identity never comes from anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub subject: String,
    /// What the token allows.
    pub scopes: Scopes,
    /// The devices it is narrowed to.
    pub devices: DevicePatterns,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    /// # Errors
    /// 500 on a public route: nobody was asked for credentials there, so a handler that wants a caller is a mistake of ours.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal(anyhow::anyhow!("a public route asks for its caller")))
    }
}

/// A request's id: the client's own `X-Request-Id` where it is sane, else a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Error;

    /// # Errors
    /// 500 outside of [`crate::app`].
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal(anyhow::anyhow!("a request without an id")))
    }
}

/// Where a request is in a trace, when that is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traced(pub Option<Context>);

impl<S: Sync> FromRequestParts<S> for Traced {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_default())
    }
}

/// Who called, on the way out: for the line of log about the request.
#[derive(Debug, Clone)]
pub(crate) struct Subject(pub(crate) String);

/// Where a request's connection comes from; of IPv6 the /64. Put into the request by [`crate::serve()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(pub(crate) IpAddr);
