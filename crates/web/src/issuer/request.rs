//! Reading a request for a token, RFC 6749 §4.4.2 and §2.3.1.
//!
//! Owns: [`Wanted`]. Does not know: clients. Invariant: a parameter stands there once, and credentials in one place.

use crate::error::Error;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What is asked for, and by whom it says it is.
#[derive(PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) client_id: String,
    pub(super) secret: String,
    pub(super) scope: Option<String>,
}

fn invalid(why: &str) -> Error {
    Error::bad_request("invalid_request", why)
}

/// The body has to be a form.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(invalid("the body is a form: Content-Type: application/x-www-form-urlencoded"))
}

impl Wanted {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Error> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        let of = |name: &str| {
            let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
            match (values.next(), values.next()) {
                (_, Some(_)) => Err(invalid(&format!("{name} stands there twice"))),
                (value, None) => Ok(value.filter(|value| !value.is_empty())),
            }
        };
        match of("grant_type")?.as_deref() {
            Some("client_credentials") => {}
            Some(_) => return Err(Error::bad_request("unsupported_grant_type", "there is only grant_type=client_credentials")),
            None => return Err(invalid("grant_type is missing: grant_type=client_credentials")),
        }
        let (of_header, of_body) = (basic(headers)?, (of("client_id")?, of("client_secret")?));
        let (client_id, secret) = match (of_header, of_body) {
            (Some((id, secret)), (named, None)) if named.as_ref().is_none_or(|named| *named == id) => (id, secret),
            (None, (Some(id), Some(secret))) => (id, secret),
            (Some(_), _) => return Err(invalid("the client says who it is in two ways")),
            (None, _) => return Err(invalid("client and secret are missing: HTTP Basic, or client_id and client_secret")),
        };
        Ok(Self { client_id, secret, scope: of("scope")? })
    }
}

/// Client and secret of HTTP's Basic scheme, each encoded as in a form.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Error> {
    let wrong = || invalid("Authorization is not HTTP Basic with client and secret");
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else {
        return if headers.contains_key(AUTHORIZATION) { Err(wrong()) } else { Ok(None) };
    };
    let (scheme, rest) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(wrong());
    }
    let decoded = BASE64_STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(wrong)?;
    let plain = |text: &str| form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned());
    Ok(Some((plain(id).ok_or_else(wrong)?, plain(secret).ok_or_else(wrong)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(authorization: Option<&str>, body: &str) -> Result<(String, String, Option<String>), &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match Wanted::read(&headers, body.as_bytes()) {
            Ok(wanted) => Ok((wanted.client_id, wanted.secret, wanted.scope)),
            Err(error) => Err(error.code()),
        }
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    const GRANT: &str = "grant_type=client_credentials";

    #[test]
    fn credentials_come_by_header_or_by_form() {
        let expected = Ok(("plant/a".to_owned(), "s:e c+r%t".to_owned(), None));
        assert_eq!(read(Some(&basic("plant%2Fa:s%3Ae+c%2Br%25t")), GRANT), expected);
        assert_eq!(read(Some(&basic("plant%2Fa:s%3Ae+c%2Br%25t")), &format!("{GRANT}&client_id=plant/a")), expected);
        assert_eq!(read(None, &format!("{GRANT}&client_id=plant%2Fa&client_secret=s%3Ae+c%2Br%25t")), expected);
        let scoped = read(Some(&basic("a:b")), &format!("{GRANT}&scope=read:stats%20admin&unknown=1"));
        assert_eq!(scoped, Ok(("a".to_owned(), "b".to_owned(), Some("read:stats admin".to_owned()))));
    }

    #[test]
    fn what_is_no_such_request_is_refused() {
        let form = format!("{GRANT}&client_id=a&client_secret=b");
        for (authorization, body, code) in [
            (None, "", "invalid_request"),
            (None, "[]", "invalid_request"),
            (None, GRANT, "invalid_request"),
            (None, "grant_type=password&client_id=a&client_secret=b", "unsupported_grant_type"),
            (None, &format!("{form}&scope=a&scope=b"), "invalid_request"),
            (None, &format!("{form}&client_id=c"), "invalid_request"),
            (None, &format!("{GRANT}&client_id=a"), "invalid_request"),
            (None, &format!("{GRANT}&client_id=a&client_secret="), "invalid_request"),
            (Some(basic("a:b").as_str()), form.as_str(), "invalid_request"),
            (Some(&basic("a:b")), &format!("{GRANT}&client_id=c"), "invalid_request"),
            (Some(&basic("a")), GRANT, "invalid_request"),
            (Some("Bearer a.b.c"), GRANT, "invalid_request"),
            (Some("Basic !!!"), GRANT, "invalid_request"),
        ] {
            assert_eq!(read(authorization, body), Err(code), "{authorization:?} {body}");
        }
    }
}
