//! The certificate of the listener: whether the pair can be used, and until when.
//!
//! Owns: what is thought of its times. Does not know: TLS; the crate `web` says whether a pair can be used, and reads the times.

use super::Line;
use headwater_core::clock::{Clock, SystemClock};
use headwater_core::time::{DAY, SECOND, Timestamp};
use headwater_web::tls::validity;
use headwater_web::{Config, Tls};
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
    let at = |seconds: i64| Timestamp(seconds.saturating_mul(SECOND));
    vec![judged(at(begin), at(end), SystemClock.now())]
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

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

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
