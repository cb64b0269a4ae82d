//! The two text formats that Prometheus reads.
//!
//! Invariant: a family without a sample has no line at all; in the older format a counter is described under the name of its samples.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which everything reads.
    Plain,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn write(registry: &Registry, format: Format) -> String {
    let mut written = String::new();
    // Writing to a String does not fail, and the values are ours.
    let done = text::encode(&mut written, registry);
    debug_assert!(done.is_ok());
    in_format(&written, format)
}

/// Written anew, family by family.
fn in_format(written: &str, format: Format) -> String {
    let mut out = String::with_capacity(written.len() + 1024);
    let mut help = None;
    let mut head = String::new();
    for line in written.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            head = head_of(help.take(), typed, format);
        } else if !line.starts_with('#') {
            out.push_str(&std::mem::take(&mut head));
            out.push_str(line);
            out.push('\n');
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head_of(help: Option<(&str, &str)>, typed: &str, format: Format) -> String {
    let suffix = if format == Format::Plain && typed.ends_with(" counter") { "_total" } else { "" };
    let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
    let help = help.map_or("", |(_, help)| help);
    format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n")
}
