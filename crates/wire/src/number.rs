//! Decimal texts to the nearest f64.
//!
//! Owns: what a decimal is ([`split`]) and its value ([`decimal`]). Does not know: which format the text came from; a format
//! that is narrower (no `+`) looks at the first byte itself.
//!
//! Source of the fast path: W. D. Clinger, "How to Read Floating Point Numbers Accurately" (1990): a mantissa below 2^53 and a
//! power of ten up to 10^22 are both exact, so one division rounds once.

/// Powers of ten that are exact as f64.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// The f64 nearest to a decimal; infinite where it lies beyond, `None` where the text is no decimal.
#[inline]
pub(crate) fn decimal(text: &str) -> Option<f64> {
    short(text.as_bytes()).or_else(|| long(text))
}

/// Whether the text spells a number that is not finite, as programs print it.
pub(crate) fn is_not_finite(text: &str) -> bool {
    let word = text.strip_prefix(['+', '-']).unwrap_or(text);
    ["nan", "inf", "infinity"].iter().any(|spelling| word.eq_ignore_ascii_case(spelling))
}

/// An integer, `None` where it does not fit or the text is none; a minus is taken, a plus is not.
#[inline]
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if !(1..=19).contains(&digits.len()) {
        return text.parse().ok().filter(|_| !text.starts_with('+'));
    }
    let (mut magnitude, mut all_digits) = (0u64, true);
    for byte in digits.bytes() {
        let digit = byte.wrapping_sub(b'0');
        all_digits &= digit < 10;
        // 19 digits stay below 10^19 < 2^64; other bytes may wrap, and do not count.
        magnitude = magnitude.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    if !all_digits {
        return None;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Decimals of up to 18 digits without an exponent: nearly all that sensors send.
#[inline]
fn short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.len() > 19 {
        return None;
    }
    let (mut mantissa, mut n_digits, mut point) = (0u64, 0usize, None);
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            // 19 digits stay below 10^19 < 2^64.
            mantissa = mantissa * 10 + u64::from(digit);
            n_digits += 1;
        } else if byte == b'.' && point.is_none() {
            point = Some(n_digits);
        } else {
            return None;
        }
    }
    if n_digits == 0 || mantissa >= 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / POWERS[point.map_or(0, |at| n_digits - at)];
    Some(if negative { -value } else { value })
}

/// Everything else: the grammar here, the rounding by the standard library.
#[cold]
fn long(text: &str) -> Option<f64> {
    split(text.as_bytes())?;
    text.parse().ok()
}

/// A decimal taken apart: `±integer.fraction × 10^exponent`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pieces<'a> {
    /// Whether it has a minus.
    pub(crate) negative: bool,
    /// The digits before the point, may be empty.
    pub(crate) integer: &'a [u8],
    /// The digits after the point, may be empty.
    pub(crate) fraction: &'a [u8],
    /// The exponent, held within ±1,000,000.
    pub(crate) exponent: i64,
}

/// Takes `[+-] (digits [. [digits]] | . digits) [(e|E) [+-] digits]` apart; `None` for any other text.
pub(crate) fn split(text: &[u8]) -> Option<Pieces<'_>> {
    let (negative, rest) = sign(text);
    let (integer, rest) = digits(rest);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => digits(rest),
        _ => (&[][..], rest),
    };
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => exponent(rest)?,
        _ => return None,
    };
    Some(Pieces { negative, integer, fraction, exponent })
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, rest) = sign(text);
    let (digits, rest) = digits(rest);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(if negative { -magnitude } else { magnitude })
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let n = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn a_decimal_is_the_f64_that_the_standard_library_reads(text in "[+-]?([0-9]{1,22}(\\.[0-9]{0,22})?|\\.[0-9]{1,22})([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(decimal(&text).map(f64::to_bits), Some(expected.to_bits()), "{}", text);
        }

        #[test]
        fn short_decimals_round_once(mantissa in any::<u64>(), at in 0usize..19) {
            let mut text = (mantissa >> 9).to_string();
            text.insert(at.min(text.len()), '.');
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(decimal(&text).map(f64::to_bits), Some(expected.to_bits()), "{}", text);
        }

        #[test]
        fn printed_values_come_back(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(decimal(&value.to_string()).map(f64::to_bits), Some(value.to_bits()));
            prop_assert_eq!(decimal(&format!("{value:e}")).map(f64::to_bits), Some(value.to_bits()));
        }

        #[test]
        fn what_is_read_is_what_the_standard_library_reads_without_its_words(text in "[+.eE0-9-]{0,8}") {
            prop_assert_eq!(decimal(&text), text.parse().ok(), "{}", text);
        }
    }

    #[test]
    fn words_and_other_spellings_are_no_decimals() {
        for text in
            ["", ".", "+", "-", "e5", "1e", "1e+", "1.2.3", "--1", "0x10", "1_000", "1,5", " 1", "1 ", "inf", "nan", "infinity", "१"]
        {
            assert_eq!(decimal(text), None, "{text:?}");
        }
        for text in ["NaN", "nan", "-nan", "inf", "-Inf", "+Infinity", "INFINITY"] {
            assert!(is_not_finite(text), "{text:?}");
        }
        assert!(!is_not_finite("infinite") && !is_not_finite("") && !is_not_finite("n/a"));
    }

    #[test]
    fn integers_are_read_to_their_ends() {
        for text in ["0", "-0", "9223372036854775807", "-9223372036854775808", "00000000000000000000000000001", "1763910000123456789"] {
            assert_eq!(integer(text), text.parse().ok(), "{text}");
            assert!(integer(text).is_some());
        }
        for text in ["", "-", "+1", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1.0", "1a"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn beyond_f64_is_infinite() {
        for text in ["1e999", "1e1000000000000000000000", &format!("1{}", "0".repeat(400))] {
            assert_eq!(decimal(text), Some(f64::INFINITY), "{text}");
        }
        assert_eq!(decimal("-1e999"), Some(f64::NEG_INFINITY));
        assert_eq!(decimal("1e-999"), Some(0.0));
        assert_eq!(decimal("5e-324"), Some(5e-324));
    }
}
