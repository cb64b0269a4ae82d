//! Durations as the configuration writes them: `10s`, `500ms`, `1h30m`, `366d`.
//!
//! Owns: reading and printing them; use with `#[serde(with = "headwater_web::duration")]`, or `…::duration::or_off` where there may
//! be none (`off`).

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// Units by size; what is printed is read back as the same.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The duration that `text` says, whole milliseconds.
///
/// # Errors
/// Text that is no duration, in words that show what one looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 500ms, 10s, 1h30m or 366d");
    let mut rest = text.trim();
    let mut millis = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size));
        millis = part.and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// The shortest text that reads as `duration`, fractions of a millisecond aside.
pub fn print(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in UNITS {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Prints a duration into a configuration.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&print(*duration))
}

/// Reads a duration from a configuration.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Durations that can be switched off.
pub mod or_off {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    const OFF: &str = "off";

    /// Prints a duration, or `off`, into a configuration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration.map_or_else(|| OFF.to_owned(), super::print))
    }

    /// Reads a duration, or `off`, from a configuration.
    ///
    /// # Errors
    /// Those of [`super::parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim() == OFF { Ok(None) } else { super::parse(&text).map(Some).map_err(serde::de::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_printed() {
        for text in ["0s", "500ms", "10s", "1h30m", "366d", "1d1ms"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
        assert_eq!(print(parse("90m").unwrap()), "1h30m");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", " ", "10", "s", "-1s", "1.5s", "10 s", "1y", "99999999999999999999s", "18446744073709551615d", "1s2"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
