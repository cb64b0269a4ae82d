//! The doubles pass the suites, so the suites can pass; broken doubles do not, so the suites can fail.

mod broken_log;
mod broken_store;
mod doubles;
mod faults;

/// A property that nobody listed would never run.
#[test]
fn every_property_is_listed() {
    let event_log = [
        include_str!("event_log/append.rs"),
        include_str!("event_log/delivery.rs"),
        include_str!("event_log/positions.rs"),
        include_str!("event_log/trimming.rs"),
    ];
    let store = [
        include_str!("store/commits.rs"),
        include_str!("store/blocks.rs"),
        include_str!("store/chunks.rs"),
        include_str!("store/loads.rs"),
        include_str!("store/merges.rs"),
        include_str!("store/replacements.rs"),
        include_str!("store/series.rs"),
        include_str!("store/dead_letters.rs"),
        include_str!("store/attempts.rs"),
        include_str!("store/snapshots.rs"),
    ];
    for (list, sources) in [(include_str!("event_log.rs"), &event_log[..]), (include_str!("store.rs"), &store)] {
        let listed: Vec<&str> = list.lines().map(str::trim).collect();
        let properties: Vec<&str> = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
            .collect();
        assert!(properties.len() > 20);
        for property in properties {
            assert_eq!(listed.iter().filter(|line| **line == property).count(), 1, "{property} is listed once");
        }
    }
}
