//! Takes a request's body in: read within its limit, decompressed within another, every byte reserved first.
//!
//! Owns: [`Body`], [`BodyError`], [`read`]. Does not know: formats and what the bytes mean.
//! Invariant: memory is reserved in the process-wide decode budget before it is used, and held by the reservation that travels
//! with the bytes.

use crate::config::Config;
use crate::content::Coding;
use crate::unpack::{Unpackable, unpack};
use bytes::Bytes;
use headwater_web::{Budget, Error, Reservation};
use std::sync::Arc;

/// Bytes and the memory that was reserved for them.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) reservation: Reservation,
}

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// Nothing to keep: too large, too slow, no memory, a fault of ours.
    Refused(Error),
    /// It is not what its coding says. The bytes are as they were sent.
    Broken { encoded: Body, detail: String },
}

impl From<Error> for BodyError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Reads the whole body and takes the coding off. `came` is told how many bytes were sent.
///
/// # Errors
/// See [`BodyError`]; 413 beyond either limit of `config`.
pub(crate) async fn read(
    config: &Config,
    budget: &Arc<Budget>,
    coding: Coding,
    body: axum::body::Body,
    came: impl FnOnce(usize),
) -> Result<Body, BodyError> {
    let encoded = receive(config, budget, body).await?;
    came(encoded.bytes.len());
    if coding == Coding::Identity || encoded.bytes.is_empty() { Ok(encoded) } else { decoded(config, coding, encoded).await }
}

async fn receive(config: &Config, budget: &Arc<Budget>, body: axum::body::Body) -> Result<Body, Error> {
    let mut reservation = budget.reserve(0, config.append_wait).await?;
    let bytes = headwater_web::read_body(body, config.max_body_bytes, &mut reservation).await?;
    Ok(Body { bytes, reservation })
}

/// Takes the coding off.
///
/// # Errors
/// See [`BodyError`].
pub(crate) async fn decoded(config: &Config, coding: Coding, encoded: Body) -> Result<Body, BodyError> {
    let Body { bytes, mut reservation } = encoded;
    if coding == Coding::Identity {
        return Ok(Body { bytes, reservation });
    }
    match unpack(coding, bytes.clone(), config.max_decoded_bytes, &mut reservation, config.append_wait).await {
        Ok(plain) => {
            drop(bytes);
            reservation.shrink_to(plain.capacity());
            Ok(Body { bytes: plain.into(), reservation })
        }
        Err(Unpackable::TooLarge) => Err(too_large(config).into()),
        Err(Unpackable::Failed(error)) => Err(error.into()),
        Err(Unpackable::Broken(detail)) => {
            let detail = format!("the body is not valid {}: {detail}", coding.as_str());
            Err(BodyError::Broken { encoded: Body { bytes, reservation }, detail })
        }
    }
}

fn too_large(config: &Config) -> Error {
    Error::new(
        axum::http::StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("the decompressed body is larger than {} bytes", config.max_decoded_bytes),
    )
}
