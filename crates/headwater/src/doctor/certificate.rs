//! The certificate of the listener: whether the pair can be used, and until when.
//!
//! Owns: reading the two times out of a certificate (X.509, DER). Does not know: TLS; the crate `web` says whether a pair can be used.
//! Invariant: bytes that are no certificate are no panic.

use super::Line;
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::time::{DAY, Timestamp};
use headwater_web::{Config, Tls};
use headwater_wire::time;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const NAME: &str = "certificate";
/// A renewal that failed shall be noticed while there is time.
const SOON_DAYS: i64 = 21;

pub(super) fn look(http: &Config) -> Vec<Line> {
    if !http.has_tls() {
        return Vec::new();
    }
    if let Err(why) = Tls::of(http) {
        return vec![Line::fail(NAME, format!("{why:#}"), "mend http.tls_cert and http.tls_key; a server does not start with them")];
    }
    let first = CertificateDer::from_pem_file(&http.tls_cert).ok();
    let Some((begin, end)) = first.and_then(|first| validity(&first)) else {
        return vec![Line::warn(
            NAME,
            "it does not say until when it is good",
            format!("look at it: openssl x509 -in {} -text", http.tls_cert),
        )];
    };
    vec![judged(begin, end, SystemClock.now())]
}

fn judged(begin: Timestamp, end: Timestamp, now: Timestamp) -> Line {
    let days = (end.0 - now.0).div_euclid(DAY);
    let renew = "renew it; a running server takes the files up within seconds";
    if now < begin {
        return Line::fail(NAME, format!("it is good from {begin} on only, and it is {now}"), "look at the clock, or at who made it");
    }
    if now >= end {
        return Line::fail(NAME, format!("it is good no longer: it ended {end}"), renew);
    }
    if days < SOON_DAYS {
        return Line::warn(NAME, format!("it ends {end}, in {days} days"), renew);
    }
    Line::ok(NAME, format!("it is good until {end}, {days} more days"))
}

/// From when and until when a certificate is good (RFC 5280, 4.1.2.5).
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (whole, _) = value(certificate, SEQUENCE)?;
    let (signed, _) = value(whole, SEQUENCE)?;
    // version (optional), serial number, algorithm, issuer, validity.
    let mut rest = value(signed, VERSION).map_or(signed, |(_, rest)| rest);
    for _ in 0..3 {
        rest = any(rest)?.2;
    }
    let (times, _) = value(rest, SEQUENCE)?;
    let (kind, begin, rest) = any(times)?;
    let (end_kind, end, _) = any(rest)?;
    Some((instant(kind, begin)?, instant(end_kind, end)?))
}

/// The contents of the value that `bytes` begins with, where it has this tag, and what comes after.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(bytes).filter(|(found, ..)| *found == tag).map(|(_, contents, rest)| (contents, rest))
}

fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDhhmmssZ` (before 2050), or `YYYYMMDDhhmmssZ`.
fn instant(kind: u8, text: &[u8]) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let full = match kind {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    let (date, clock) = ([part(0, 4)?, part(4, 6)?, part(6, 8)?].join("-"), [part(8, 10)?, part(10, 12)?, part(12, 14)?].join(":"));
    time::parse(&format!("{date}T{clock}Z"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn the_times_of_a_certificate_are_read() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 2, 3);
        for (year, expected) in [(2031, "2031-04-05T00:00:00Z"), (2061, "2061-04-05T00:00:00Z")] {
            params.not_after = rcgen::date_time_ymd(year, 4, 5);
            let made = params.clone().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let (begin, end) = validity(made.der()).unwrap();
            assert_eq!((begin.to_string().as_str(), end.to_string().as_str()), ("2026-02-03T00:00:00Z", expected));
            for cut in 0..made.der().len() {
                validity(&made.der()[..cut]);
            }
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_in_time() {
        let state = |days: i64| judged(Timestamp(0), Timestamp(DAY * days), Timestamp(DAY * 100)).state;
        assert_eq!(
            (state(99), state(100), state(101), state(120), state(121), state(400)),
            (State::Fail, State::Fail, State::Warn, State::Warn, State::Ok, State::Ok)
        );
        assert_eq!(judged(Timestamp(2), Timestamp(3), Timestamp(1)).state, State::Fail);
    }
}
