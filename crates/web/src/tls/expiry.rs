//! From when and until when a certificate is good: the one field of X.509 that is looked at here.
//!
//! Owns: [`validity`]. Does not know: whether a certificate is good otherwise; rustls has read it already.
//! Invariant: nothing in the bytes makes it panic; what cannot be read has no end.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER, in seconds since the epoch.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    validity(der).map(|(_, end)| end)
}

/// `notBefore` and `notAfter` of a certificate in DER, in seconds since the epoch; `None` where it cannot be read.
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let certificate = Values(Values(der).of(SEQUENCE)?).of(SEQUENCE)?;
    let mut fields = Values(certificate);
    if certificate.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer.
    fields.by_ref().take(3).for_each(drop);
    let mut validity = Values(fields.of(SEQUENCE)?);
    let mut next = || validity.next().and_then(|(tag, text)| time(tag, std::str::from_utf8(text).ok()?));
    Some((next()?, next()?))
}

/// The values in some bytes, one after the other: tag and content.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The next value, which has this tag.
    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // So many bytes hold the length.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, as RFC 5280 §4.1.2.5 has them.
fn time(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (number(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let at = |place: usize| number(rest + 2 * place, rest + 2 * place + 2);
    let (month, day, hour, minute, second) = (at(0)?, at(1)?, at(2)?, at(3)?, at(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since the epoch of a date of the Gregorian calendar, after Howard Hinnant's `days_from_civil`.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        // 2049 is the last year of the short form.
        for (year, month, day, seconds) in [(2026, 11, 24, 1_795_478_400), (2049, 12, 31, 2_524_521_600), (2052, 2, 29, 2_592_777_600_i64)]
        {
            assert_eq!(not_after(&certificate(year, month, day)), Some(seconds), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_panic_nowhere() {
        let der = certificate(2026, 11, 24);
        for n in 0..der.len() {
            not_after(&der[..n]);
            let mut changed = der.clone();
            changed[n] ^= 0xff;
            not_after(&changed);
        }
        assert_eq!(not_after(&[]), None);
        assert_eq!(time(UTC_TIME, "261324000000Z"), None);
    }
}
