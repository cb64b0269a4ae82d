//! Names, formats and values as a scraper sees them.

use super::*;

fn lines(registry: &Registry, format: Format) -> Vec<String> {
    registry.write(format).lines().map(str::to_owned).collect()
}

#[test]
fn a_family_is_described_once_whoever_adds_to_it() {
    let mut registry = Registry::default();
    for (role, n) in [("a", 1), ("b", 2)] {
        registry.counter_of("x_things_total", "Things", &[("role", role)]).inc_by(n);
    }
    registry.counter_of("x_things_total", "Things", &[("role", "b")]).inc();
    let mut plain = lines(&registry, Format::Plain);
    plain.sort();
    let described = ["# HELP x_things_total Things.", "# TYPE x_things_total counter"];
    assert_eq!(plain, [&described[..], &["x_things_total{role=\"a\"} 1", "x_things_total{role=\"b\"} 3"]].concat());
    let open = lines(&registry, Format::OpenMetrics);
    assert_eq!(&open[..2], ["# HELP x_things Things.", "# TYPE x_things counter"]);
    assert_eq!(open.last().unwrap(), "# EOF");
}

#[test]
fn what_nobody_knows_is_left_out_with_its_description() {
    let mut registry = Registry::default();
    let (gauge, total) = (registry.gauge("x_bytes", "Bytes"), registry.total("x_lost_total", "Lost"));
    gauge.forget();
    total.forget();
    assert_eq!(registry.write(Format::Plain), "");
    assert_eq!(registry.write(Format::OpenMetrics), "# EOF\n");
    gauge.raise(3.0);
    gauge.raise(2.0);
    gauge.add(0.5);
    total.set(7.0);
    let plain = lines(&registry, Format::Plain);
    assert!(plain.contains(&"x_bytes 3.5".to_owned()) && plain.contains(&"x_lost_total 7.0".to_owned()), "{plain:?}");
}

#[test]
fn a_histogram_has_all_its_buckets_from_the_start() {
    let mut registry = Registry::default();
    let histogram = registry.histogram_of("x_seconds", "Time", SECONDS, &[("route", "/v1/x")]);
    registry.histogram("y_seconds", "Time", SECONDS);
    let text = registry.write(Format::Plain);
    assert_eq!(text.matches("x_seconds_bucket{").count(), SECONDS.len() + 1, "{text}");
    assert!(text.contains("y_seconds_bucket{le=\"+Inf\"} 0"), "{text}");
    histogram.observe(0.3);
    let text = registry.write(Format::Plain);
    assert!(text.contains("x_seconds_bucket{le=\"0.5\",route=\"/v1/x\"} 1"), "{text}");
    assert!(text.contains("x_seconds_bucket{le=\"0.25\",route=\"/v1/x\"} 0"), "{text}");
}
