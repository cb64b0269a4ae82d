//! Which series a question is about.
//!
//! Owns: [`SeriesFilter`]. Does not know: how a store finds them; [`SeriesFilter::key_ranges`] tells it where to look and
//! [`SeriesFilter::matches`] decides.

use crate::glob::{DevicePatterns, Glob};
use crate::series::Parts;

/// Devices, metrics and tags by pattern, and what the caller may see. Within a list any match suffices; an empty list is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesFilter {
    /// Patterns over the device.
    pub devices: Vec<Glob>,
    /// Patterns over the metric.
    pub metrics: Vec<Glob>,
    /// Patterns over the values of tags, by name: all must match.
    pub tags: Vec<(String, Glob)>,
    /// What the caller may see, whatever was asked for.
    pub allowed: DevicePatterns,
}

impl SeriesFilter {
    /// Whether the series of this canonical text is meant.
    pub fn matches(&self, key: &str) -> bool {
        let parts = Parts::of(key);
        let any = |globs: &[Glob], text| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        any(&self.devices, parts.device)
            && any(&self.metrics, parts.metric)
            && self.tags.iter().all(|(name, glob)| parts.tag(name).is_some_and(|value| glob.matches(value)))
            && self.allowed.allow(parts.device)
    }

    /// Half-open ranges of canonical texts (`None` = no upper end) that hold every match, sorted and not overlapping.
    /// They come from the devices' exact ids or literal prefixes.
    pub fn key_ranges(&self) -> Vec<(String, Option<String>)> {
        let globs = match (&self.devices[..], &self.allowed) {
            ([], DevicePatterns::All) => return vec![(String::new(), None)],
            ([], DevicePatterns::Some(allowed)) => allowed,
            (devices, _) => devices,
        };
        let mut ranges: Vec<_> = globs.iter().map(range_of).collect();
        ranges.sort();
        let mut merged: Vec<(String, Option<String>)> = Vec::new();
        for (from, to) in ranges {
            match merged.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| *last >= from) => {
                    // `None` is the largest end.
                    if to.is_none() || last.as_ref().is_some_and(|last| to.as_ref().is_some_and(|to| to > last)) {
                        *last = if last.is_none() { None } else { to };
                    }
                }
                _ => merged.push((from, to)),
            }
        }
        merged
    }
}

/// The canonical texts that begin as a match of `glob` does. Ids are UTF-8, so no text of one begins with U+10FFFF… after
/// the prefix in practice; the end is the prefix followed by the greatest character, or by U+0001 for an exact id.
fn range_of(glob: &Glob) -> (String, Option<String>) {
    match glob.exact() {
        Some(device) => (format!("{device}\0"), Some(format!("{device}\u{1}"))),
        None if glob.prefix().is_empty() => (String::new(), None),
        None => {
            let prefix = glob.prefix().to_owned();
            let end = successor(&prefix);
            (prefix, end)
        }
    }
}

/// The least text greater than every text that begins with `prefix`, if there is one.
fn successor(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=0x10_ffff).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SeriesKey;
    use proptest::prelude::*;

    fn key(device: &str, metric: &str, tags: &[(&str, &str)]) -> SeriesKey {
        SeriesKey::new(device, metric, tags).unwrap()
    }

    #[test]
    fn every_part_must_match() {
        let filter = SeriesFilter {
            devices: vec![Glob::new("plant-a/*"), Glob::new("x")],
            metrics: vec![Glob::new("temp*")],
            tags: vec![("line".into(), Glob::new("3"))],
            allowed: DevicePatterns::Some(vec![Glob::new("plant-a/press-*")]),
        };
        assert!(filter.matches(key("plant-a/press-7", "temperature", &[("line", "3")]).as_str()));
        assert!(!filter.matches(key("plant-a/press-7", "temperature", &[("line", "4")]).as_str()));
        assert!(!filter.matches(key("plant-a/press-7", "temperature", &[]).as_str()));
        assert!(!filter.matches(key("plant-a/press-7", "pressure", &[("line", "3")]).as_str()));
        assert!(!filter.matches(key("x", "temperature", &[("line", "3")]).as_str()));
    }

    proptest! {
        #[test]
        fn ranges_hold_every_match(
            patterns in prop::collection::vec("[ab*é\u{d7ff}]{1,4}", 0..4),
            allowed in prop::option::of(prop::collection::vec("[ab*]{1,3}", 0..3)),
            device in "[abé\u{d7ff}\u{e000}]{1,5}",
        ) {
            let filter = SeriesFilter {
                devices: patterns.into_iter().map(Glob::new).collect(),
                allowed: allowed.map_or(DevicePatterns::All, |globs| DevicePatterns::Some(globs.into_iter().map(Glob::new).collect())),
                ..SeriesFilter::default()
            };
            let ranges = filter.key_ranges();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].1.as_ref().is_some_and(|end| *end < pair[1].0));
            }
            let key = key(&device, "m", &[]);
            if filter.matches(key.as_str()) {
                let inside = ranges.iter().any(|(from, to)| from.as_str() <= key.as_str() && to.as_ref().is_none_or(|to| key.as_str() < to.as_str()));
                prop_assert!(inside, "{:?} not in {:?}", key, ranges);
            }
        }
    }
}
