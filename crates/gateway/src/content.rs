//! What a request says its body is: the format by `Content-Type`, the coding by `Content-Encoding`.
//!
//! Owns: [`Format`], [`Coding`], the closed lists of both, and their names in dead letters. Does not know: the bytes.
//! Invariant: what is not understood is refused, never guessed.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use headwater_web::Error;
use headwater_wire::{Precision, letters};

/// What [`Format::of`] accepts, as it is told to people and in `Accept-Post`.
pub(crate) const MEDIA_TYPES: &str = "application/json, application/x-ndjson, text/csv";
/// What [`Coding::of`] accepts, as it is told to people and in `Accept-Encoding`.
const CODINGS: &str = "gzip, zstd, identity";
/// What [`Format::of_edited`] accepts.
const EDITED_MEDIA_TYPES: &str = "application/json, application/x-ndjson, text/csv, text/plain (line protocol), application/senml+json";

/// How the bytes of a body become readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Ndjson,
    Csv,
    Line,
    /// Only of what other programs have put into the log.
    Senml,
}

impl Format {
    /// Every format, in the order of its declaration.
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Line];

    /// The name that dead letters carry.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Line => "line",
            Self::Senml => "senml",
        }
    }

    /// The format that a dead letter's name says; none where nothing here reads it.
    pub(crate) fn of_letter(name: &str) -> Option<Self> {
        Some(match name {
            "json" => Self::Json,
            "ndjson" => Self::Ndjson,
            letters::CSV | letters::CSV_WITH_HEADER => Self::Csv,
            "line" => Self::Line,
            "senml" | letters::SENML_WITH_BASE => Self::Senml,
            _ => return None,
        })
    }

    /// The format that `Content-Type` names for an edited dead letter: beyond those of every write also line protocol and SenML, and without
    /// one the letter's own.
    ///
    /// # Errors
    /// 415, as for every write.
    pub(crate) fn of_edited(headers: &HeaderMap, own: Option<Self>) -> Result<Self, Error> {
        let unsupported = |problem: &str| {
            Error::unsupported_media("unsupported_media_type", format!("{problem}; accepted are {EDITED_MEDIA_TYPES}"))
                .header(HeaderName::from_static("accept-post"), HeaderValue::from_static(MEDIA_TYPES))
        };
        if !headers.contains_key(header::CONTENT_TYPE) {
            return own
                .ok_or_else(|| unsupported("the format of this letter is not known here, so Content-Type has to say what the body is"));
        }
        let text = only(headers, &header::CONTENT_TYPE).map_err(|problem| unsupported(&format!("Content-Type is {problem}")))?;
        let mut parts = text.split(';').map(str::trim);
        let format = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/plain" | "application/vnd.influx.line-protocol" | "application/vnd.influxdb.line-protocol" => Self::Line,
            "application/senml+json" => Self::Senml,
            _ => return Self::of(headers).map_err(|_| unsupported("this Content-Type is not accepted")),
        };
        parts.try_for_each(check_parameter)?;
        Ok(format)
    }

    /// The format that `Content-Type` names.
    ///
    /// # Errors
    /// 415 with the accepted list for a missing, repeated or other type, a charset but UTF-8, or CSV that says it has no header.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let text = only(headers, &header::CONTENT_TYPE).map_err(|problem| unsupported_type(&format!("Content-Type is {problem}")))?;
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let format = match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Self::Ndjson,
            "text/csv" => Self::Csv,
            _ => return Err(unsupported_type("this Content-Type is not accepted")),
        };
        parts.try_for_each(check_parameter)?;
        Ok(format)
    }
}

fn check_parameter(parameter: &str) -> Result<(), Error> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    if name.trim().eq_ignore_ascii_case("charset") && !["utf-8", "utf8"].iter().any(|utf8| value.eq_ignore_ascii_case(utf8)) {
        return Err(unsupported_type("the only charset is utf-8"));
    }
    if name.trim().eq_ignore_ascii_case("header") && value.eq_ignore_ascii_case("absent") {
        return Err(unsupported_type("csv needs a header line"));
    }
    Ok(())
}

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// The name that dead letters carry behind the format, such as `json+gzip`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of a name that dead letters carry; none is `identity`.
    pub(crate) fn of_letter(name: Option<&str>) -> Self {
        match name {
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            _ => Self::Identity,
        }
    }

    /// The coding that `Content-Encoding` names; none is `identity`.
    ///
    /// # Errors
    /// 415 with the accepted list for any other, several, or one that is no text.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        if !headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(Self::Identity);
        }
        let text =
            only(headers, &header::CONTENT_ENCODING).map_err(|problem| unsupported_coding(&format!("Content-Encoding is {problem}")))?;
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(unsupported_coding("this Content-Encoding is not accepted")),
        }
    }
}

/// The name that a dead letter carries: the format, the coding where it is still on the bytes, and what times count where that is
/// not told by the format.
pub(crate) fn letter_name(format: Format, coding: Coding, precision: Precision) -> String {
    let mut name = format.as_str().to_owned();
    if coding != Coding::Identity {
        name = format!("{name}+{}", coding.as_str());
    }
    if format == Format::Line && precision != Precision::default() {
        name = format!("{name};precision={}", precision.as_str());
    }
    name
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err("missing"),
        (Some(_), Some(_)) => Err("given twice"),
        (Some(value), None) => value.to_str().map_err(|_| "no text"),
    }
}

fn unsupported_type(problem: &str) -> Error {
    Error::unsupported_media("unsupported_media_type", format!("{problem}; accepted are {MEDIA_TYPES}"))
        .header(HeaderName::from_static("accept-post"), HeaderValue::from_static(MEDIA_TYPES))
}

fn unsupported_coding(problem: &str) -> Error {
    Error::unsupported_media("unsupported_content_encoding", format!("{problem}; accepted are {CODINGS}"))
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static(CODINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_content_type_names_a_format_or_is_refused() {
        let cases: &[(&[&str], Option<Format>)] = &[
            (&["application/json"], Some(Format::Json)),
            (&["Application/JSON; charset=UTF-8"], Some(Format::Json)),
            (&["application/json;charset=\"utf-8\";v=1"], Some(Format::Json)),
            (&["application/x-ndjson"], Some(Format::Ndjson)),
            (&["application/ndjson"], Some(Format::Ndjson)),
            (&["application/jsonl"], Some(Format::Ndjson)),
            (&["text/csv; header=present"], Some(Format::Csv)),
            (&["text/csv; header=absent"], None),
            (&["application/json; charset=latin1"], None),
            (&["text/plain"], None),
            (&["application/jsonp"], None),
            (&[""], None),
            (&[], None),
            (&["application/json", "text/csv"], None),
            (&["application/json\u{e9}"], None),
        ];
        for (values, expected) in cases {
            assert_eq!(Format::of(&headers(header::CONTENT_TYPE, values)).ok(), *expected, "{values:?}");
        }
    }

    #[test]
    fn the_name_in_a_dead_letter_comes_back() {
        use headwater_core::dead_letter::Form;
        for format in [Format::Json, Format::Ndjson, Format::Csv, Format::Line, Format::Senml] {
            for (coding, precision) in
                [(Coding::Identity, Precision::Nanoseconds), (Coding::Gzip, Precision::Seconds), (Coding::Zstd, Precision::Auto)]
            {
                let name = letter_name(format, coding, precision);
                let form = Form::of(&name);
                assert_eq!((Format::of_letter(form.name), Coding::of_letter(form.coding)), (Some(format), coding), "{name}");
                let expected = if format == Format::Line { precision } else { Precision::default() };
                assert_eq!(form.precision.map_or(Some(Precision::default()), Precision::parse), Some(expected), "{name}");
            }
        }
        assert_eq!(letter_name(Format::Line, Coding::Identity, Precision::Nanoseconds), "line");
        assert_eq!((Format::of_letter("csv+header"), Format::of_letter("record")), (Some(Format::Csv), None));
    }

    #[test]
    fn an_edited_letter_is_of_its_own_format_unless_it_says_otherwise() {
        let cases: &[(&[&str], Option<Format>, Option<Format>)] = &[
            (&[], Some(Format::Line), Some(Format::Line)),
            (&[], None, None),
            (&["application/json"], Some(Format::Line), Some(Format::Json)),
            (&["text/plain; charset=utf-8"], None, Some(Format::Line)),
            (&["text/plain; charset=latin1"], None, None),
            (&["application/senml+json"], None, Some(Format::Senml)),
            (&["application/x-www-form-urlencoded"], Some(Format::Json), None),
        ];
        for (values, own, expected) in cases {
            assert_eq!(Format::of_edited(&headers(header::CONTENT_TYPE, values), *own).ok(), *expected, "{values:?} of {own:?}");
        }
    }

    #[test]
    fn a_content_encoding_names_a_coding_or_is_refused() {
        let cases: &[(&[&str], Option<Coding>)] = &[
            (&[], Some(Coding::Identity)),
            (&["identity"], Some(Coding::Identity)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["zstd"], Some(Coding::Zstd)),
            (&["br"], None),
            (&["gzip, gzip"], None),
            (&["gzip", "zstd"], None),
        ];
        for (values, expected) in cases {
            assert_eq!(Coding::of(&headers(header::CONTENT_ENCODING, values)).ok(), *expected, "{values:?}");
        }
    }
}
