//! What is on the dashboard, and the data that it shows.
//!
//! Owns: the 20 panels, the fleet's names, the lines that fill the store. Does not know: servers, viewers, what is measured.

use crate::bench::load::Random;
use std::fmt::Write as _;

/// The panels as a person would put them together: most are of the last hours, some of the week; some of one device, some of many. The last three
/// are of whole days, so their ranges stay for a while.
pub(super) const PANELS: [(&str, &str); 20] = [
    ("device, 1 h by 1 m", "device=site-03/dev-0333&metric=climate_temperature&from=now-1h&step=1m&stats=avg,min,max"),
    ("device, 1 h by 1 m, humidity", "device=site-03/dev-0333&metric=climate_humidity&from=now-1h&step=1m&stats=avg,min,max"),
    ("device, 6 h by 5 m", "device=site-07/dev-0717&metric=climate_temperature&from=now-6h&step=5m&stats=avg,p95"),
    ("device, 6 h by 5 m, humidity", "device=site-07/dev-0717&metric=climate_humidity&from=now-6h&step=5m&stats=avg,p95"),
    ("device, 24 h by 15 m", "device=site-03/dev-0333&metric=climate_temperature&from=now-24h&step=15m&stats=avg,min,max"),
    ("device, 24 h by 1 h", "device=site-07/dev-0717&metric=climate_temperature&from=now-24h&step=1h&stats=avg,min,max,p95"),
    ("device, 7 d by 1 h", "device=site-03/dev-0333&metric=climate_temperature&from=now-7d&step=1h&stats=avg,min,max"),
    ("device, 7 d by 6 h", "device=site-07/dev-0717&metric=climate_temperature&from=now-7d&step=6h"),
    ("device, 24 h, one number", "device=site-09/dev-0999&metric=climate_temperature&from=now-24h&stats=count,avg,last"),
    ("all, 1 h, one number", "metric=climate_temperature&from=now-1h&group_by=none&stats=p50,p95,p99"),
    ("all, 24 h, one number", "metric=climate_temperature&from=now-24h&group_by=none&stats=count,avg,max"),
    ("a site, 24 h, one number", "device=site-04/*&metric=climate_humidity&from=now-24h&group_by=none&stats=max,p99"),
    ("by line, 6 h by 1 h", "metric=climate_temperature&from=now-6h&step=1h&group_by=tag.line&stats=avg"),
    ("by line, 24 h by 1 h", "metric=climate_temperature&from=now-24h&step=1h&group_by=tag.line&stats=avg,p95"),
    ("a site by line, 7 d by 6 h", "device=site-01/*&metric=climate_temperature&from=now-7d&step=6h&group_by=tag.line&stats=avg,max"),
    ("a site's devices, 1 h", "device=site-02/*&metric=climate_temperature&from=now-1h&stats=avg,min,max,p95"),
    ("a site by line, 6 h by 30 m", "device=site-05/*&metric=climate_temperature&from=now-6h&step=30m&group_by=tag.line&stats=avg"),
    ("by line, 7 whole days by 1 d", "metric=climate_temperature&from=now-7d/d&to=now/d&step=1d&group_by=tag.line&stats=count,avg,p95"),
    ("device, yesterday by 1 h", "device=site-03/dev-0333&metric=climate_temperature&from=now-1d/d&to=now/d&step=1h&stats=avg,min,max"),
    ("device, 6 whole days by 1 h", "device=site-07/dev-0717&metric=climate_temperature&from=now-7d/d&to=now-1d/d&step=1h&stats=avg"),
];

/// The path of a panel.
pub(super) fn path(panel: usize) -> String {
    format!("/v1/stats?{}", PANELS[panel].1)
}

/// Sensors that send temperature and humidity, with one decimal each.
pub(super) struct Fleet {
    random: Random,
    walk: Vec<(i64, i64)>,
}

/// How many there are: ten sites of a hundred.
pub(super) const DEVICES: u64 = 1_000;

impl Fleet {
    pub(super) fn new() -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let walk = (0..DEVICES).map(|_| (150 + random.below(100) as i64, 300 + random.below(300) as i64)).collect();
        Self { random, walk }
    }

    /// Appends the line of one device at a time.
    pub(super) fn line(&mut self, device: u64, ms: u64, out: &mut String) {
        let Some((temperature, humidity)) = self.walk.get_mut(device as usize) else { return };
        *temperature += self.random.below(5) as i64 - 2;
        *humidity += self.random.below(7) as i64 - 3;
        let (site, line) = (device / 100, device % 10);
        // Writing to a string cannot fail.
        let _written = writeln!(
            out,
            "climate,device=site-{site:02}/dev-{device:04},line={line} temperature={},humidity={} {ms}",
            *temperature as f64 / 10.0,
            *humidity as f64 / 10.0
        );
    }
}
