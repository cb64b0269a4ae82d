//! Patterns over ids: `*` is any run of characters, `/` included; nothing else is special; whole id, case-sensitive.
//!
//! Owns: [`Glob`], and [`DevicePatterns`] (which devices a caller may see and write as).
//! Invariant: matching takes time linear in pattern × text at worst and never recurses.

use std::fmt;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(String);

impl Glob {
    /// A pattern from its text; every text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one id that it matches, when it has no `*`.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(self.0.as_str())
    }

    /// What every match begins with.
    pub fn prefix(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let Some((prefix, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(prefix) else {
            return false;
        };
        // Every piece between two stars takes its first place; the last one is anchored at the end.
        let mut pieces = rest.split('*').peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return text.ends_with(piece);
            }
            match text.find(piece) {
                Some(at) => text = &text[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The devices that a caller may see and write as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DevicePatterns {
    /// Every device.
    #[default]
    All,
    /// Devices that match at least one of these; an empty list is no device.
    Some(Vec<Glob>),
}

impl DevicePatterns {
    /// Whether `device` is among them.
    pub fn allow(&self, device: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(globs) => globs.iter().any(|glob| glob.matches(device)),
        }
    }

    /// The one device that this is a credential of, when it is narrowed to exactly one id.
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::Some(globs) if globs.len() == 1 => globs[0].exact(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, by recursion.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|i| slow(rest, &text[i..])),
            Some((c, rest)) => text.first() == Some(c) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_follows_the_definition(pattern in "[ab*/]{0,8}", text in "[ab/]{0,10}") {
            prop_assert_eq!(Glob::new(pattern.clone()).matches(&text), slow(pattern.as_bytes(), text.as_bytes()), "{} {}", pattern, text);
        }
    }

    #[test]
    fn patterns_match_whole_ids() {
        assert!(Glob::new("plant-a/*").matches("plant-a/press-7/left"));
        assert!(!Glob::new("plant-a/*").matches("plant-b/press-7"));
        assert!(!Glob::new("press").matches("press-7"));
        assert!(Glob::new("a*a").matches("aa") && !Glob::new("a*a").matches("a"));
        assert_eq!(Glob::new("press-*").prefix(), "press-");
    }

    #[test]
    fn an_empty_list_allows_no_device() {
        assert!(!DevicePatterns::Some(vec![]).allow("a"));
        assert_eq!(DevicePatterns::Some(vec![Glob::new("a")]).only(), Some("a"));
        assert_eq!(DevicePatterns::Some(vec![Glob::new("a*")]).only(), None);
    }
}
