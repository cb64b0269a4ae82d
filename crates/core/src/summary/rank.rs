//! Which percentile is asked for, as an exact fraction.

use std::fmt;

/// Four decimals of a percent: finer ranks than p99.9999 have no reader.
const DECIMALS: usize = 4;
const ONE: u32 = 1_000_000;
const PERCENT: u32 = ONE / 100;

/// The rank of a percentile, from 0 to 1 in millionths: p99.9 is 999,000 / 1,000,000. Shown as a percentage (`99.9`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    millionths: u32,
}

impl Rank {
    /// The rank of a whole percentage; above 100 it is 100.
    pub const fn percent(percent: u32) -> Self {
        Self { millionths: if percent > 100 { ONE } else { percent * PERCENT } }
    }

    /// Reads what follows the `p` of a percentile's name: `0`, `50`, `99.9`, `100`. At most four decimals, no sign, no
    /// exponent, no needless leading zero. `None` for anything else and above 100.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let leads_with_zero = whole.len() > 1 && whole.starts_with('0');
        if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > DECIMALS || leads_with_zero {
            return None;
        }
        let whole: u32 = whole.parse().ok()?;
        let decimals: u32 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
        let millionths = whole * PERCENT + decimals;
        (millionths <= ONE).then_some(Self { millionths })
    }

    /// The place (1 to `count`) among `count` sorted readings: the smallest that is at least rank · count. `count` is not 0.
    pub(super) fn place(self, count: u64) -> u64 {
        let place = (u128::from(self.millionths) * u128::from(count)).div_ceil(u128::from(ONE));
        // At most `count`, for the rank is at most one.
        (place as u64).max(1)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.millionths / PERCENT, self.millionths % PERCENT);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{decimals:0DECIMALS$}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}
