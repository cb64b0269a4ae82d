//! Times of SenML: seconds as decimals that are added up.
//!
//! Owns: their exact sum, and what it means. Does not know: which times a reading may have (the sink does).
//! Invariant: no f64 is involved: a sum is exact to 18 decimals, of each decimal further digits are floored.

use crate::number::{self, Pieces};
use headwater_core::time::Timestamp;

/// A second in the unit of the sums here, 10^-18 s.
const SECOND: i128 = 1_000_000_000_000_000_000;
const MICROSECOND: i128 = SECOND / 1_000_000;
/// Decimals that are kept.
const PLACES: i64 = 18;
/// Where larger ones are held: beyond every time, and two of them still have a sum.
const MOST: i128 = 10_000_000_000_000_000_000 * SECOND;
/// Sums below this many seconds count from the receipt (RFC 8428, 4.5.3).
const RELATIVE: i128 = (1 << 28) * SECOND;

/// The seconds that a JSON number says; `None` where the text is none.
pub(super) fn read(raw: &str) -> Option<i128> {
    let Pieces { negative, integer, fraction, exponent } = number::split(raw.as_bytes())?;
    // How many of the digits count, and how many zeros follow them.
    let n_kept = integer.len() as i64 + exponent + PLACES;
    let (mut sum, mut rest) = (0i128, false);
    for (&digit, at) in integer.iter().chain(fraction).zip(0..) {
        let digit = i128::from(digit - b'0');
        if at < n_kept {
            sum = (sum * 10 + digit).min(MOST);
        } else {
            rest |= digit != 0;
        }
    }
    for _ in (integer.len() + fraction.len()) as i64..n_kept {
        if sum == 0 || sum == MOST {
            break;
        }
        sum = (sum * 10).min(MOST);
    }
    Some(if negative { -sum - i128::from(rest) } else { sum })
}

/// The time that a sum means to somebody who received it at `received_at`.
pub(super) fn time(sum: i128, received_at: Timestamp) -> Timestamp {
    let micros = sum.div_euclid(MICROSECOND);
    let micros = i64::try_from(micros).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX });
    if sum < RELATIVE { received_at.plus(micros) } else { Timestamp(micros) }
}
