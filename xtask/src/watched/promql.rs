//! The selectors of a PromQL expression: enough to hold them against rules, not a parser (promtool and Prometheus parse).
//!
//! Owns: [`selectors`]. Does not know: what an expression means.

/// One `name{matchers}[range]` of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector<'a> {
    /// The name of the metric.
    pub(crate) name: &'a str,
    /// What stands between the braces.
    pub(crate) matchers: &'a str,
    /// What stands between the brackets behind it.
    pub(crate) range: Option<&'a str>,
    /// The function that it is an argument of.
    pub(crate) function: Option<&'a str>,
}

/// Words that are no metrics although nothing follows them.
const WORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];
/// Their brackets hold labels.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// All selectors, in order.
pub(crate) fn selectors(expression: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut calls: Vec<Option<&str>> = Vec::new();
    let mut rest = expression;
    let mut word: Option<&str> = None;
    while let Some(first) = rest.chars().next() {
        let starts_word = first.is_ascii_alphabetic() || first == '_' || first == ':';
        if starts_word || first.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            let (this, after) = rest.split_at(end);
            rest = after.trim_start();
            word = starts_word.then_some(this).filter(|word| !WORDS.contains(&word.to_ascii_lowercase().as_str()));
            if let Some(name) = word.filter(|name| !GROUPINGS.contains(name) && !rest.starts_with('(') && !is_grouped(rest)) {
                let (selector, after) = selector(name, calls.last().copied().flatten(), rest);
                found.push(selector);
                (rest, word) = (after, None);
            }
            continue;
        }
        match first {
            '(' if word.is_some_and(|word| GROUPINGS.contains(&word)) => {
                rest = rest.split_once(')').map_or("", |(_, after)| after);
                word = None;
                continue;
            }
            '(' => calls.push(word.take()),
            ')' => drop(calls.pop()),
            '"' => {
                rest = rest[1..].split_once('"').map_or("", |(_, after)| after);
                continue;
            }
            _ => {}
        }
        rest = &rest[first.len_utf8()..];
    }
    found
}

/// What follows the name of an aggregation: `by (…)`.
fn is_grouped(rest: &str) -> bool {
    ["by", "without"].iter().any(|grouping| rest.strip_prefix(grouping).is_some_and(|after| after.trim_start().starts_with('(')))
}

fn selector<'a>(name: &'a str, function: Option<&'a str>, rest: &'a str) -> (Selector<'a>, &'a str) {
    let (matchers, rest) = match rest.strip_prefix('{') {
        Some(inside) => split_at_brace(inside),
        None => ("", rest),
    };
    let ranged = rest.trim_start().strip_prefix('[').and_then(|inside| inside.split_once(']'));
    let (range, rest) = ranged.map_or((None, rest), |(range, rest)| (Some(range), rest));
    (Selector { name, matchers, range, function }, rest)
}

/// At the closing brace that is in no string.
fn split_at_brace(inside: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = inside.find(|c| {
        quoted ^= c == '"';
        c == '}' && !quoted
    });
    end.map_or((inside, ""), |end| (&inside[..end], &inside[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expression: &str) -> Vec<String> {
        let one = |s: &Selector<'_>| format!("{}{{{}}}[{}] in {}", s.name, s.matchers, s.range.unwrap_or(""), s.function.unwrap_or(""));
        selectors(expression).iter().map(one).collect()
    }

    #[test]
    fn selectors_are_found_with_their_function() {
        let quantile = "histogram_quantile(0.99, sum by (le) (rate(a_bucket{job=~\"$job\", x=\"}\"}[$__rate_interval]))) > 10e6";
        assert_eq!(shown(quantile), ["a_bucket{job=~\"$job\", x=\"}\"}[$__rate_interval] in rate"]);
        let joined = "time() - max without (stage) (b{}) > 60 and on (job, instance) c unless on (job) sum(d{x=\"e\"})";
        assert_eq!(shown(joined), ["b{}[] in ", "c{}[] in ", "d{x=\"e\"}[] in sum"]);
        assert_eq!(
            shown("job:x:rate5m == 0 and job:x:rate5m offset 1h > bool 0 or vector(0)"),
            ["job:x:rate5m{}[] in ", "job:x:rate5m{}[] in "]
        );
        assert_eq!(shown("absent(up{job=\"h\"})"), ["up{job=\"h\"}[] in absent"]);
    }
}
