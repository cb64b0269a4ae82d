//! What `latest` promises, through the router or by its functions.

use crate::testing::{Reading, Stack, at, reading};
use headwater_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test]
async fn the_newest_reading_of_each_series_is_found_however_old() {
    let stack = Stack::new();
    let old = Timestamp(700_000_000_000_000);
    stack
        .commit(&[
            reading("a", "m").at(at(-5)).value(1.0),
            reading("b", "m").at(old).value(2.0),
            reading("c", "m").at(at(-86_400)).value(3.0),
        ])
        .await;
    stack.commit(&[reading("a", "m").at(at(-5)).value(9.0), reading("a", "m").at(at(-50)).value(8.0)]).await;
    let rows = stack.get("/v1/latest").await.ok().rows();
    let expected = [
        json!({"time": "2025-11-23T14:59:55Z", "device": "a", "metric": "m", "tags": {}, "value": 1.0}),
        json!({"time": "1992-03-07T20:26:40Z", "device": "b", "metric": "m", "tags": {}, "value": 2.0}),
        json!({"time": "2025-11-22T15:00:00Z", "device": "c", "metric": "m", "tags": {}, "value": 3.0}),
    ];
    assert_eq!(rows, expected);
    assert_eq!(stack.all_pages("/v1/latest?", 1).await, expected);
    assert_eq!(stack.all_pages("/v1/latest?device=*", 3).await, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn latest_and_series_follow_their_definition(rows in prop::collection::vec((0usize..200, -2_000_000i64..0, 0u8..9), 1..80), limit in 1usize..9, cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let readings: Vec<Reading> = rows.iter().map(|&(n, second, value)| reading(&format!("d{n:03}"), "m").at(at(second)).value(f64::from(value))).collect();
            let stack = Stack::new();
            let (first, second) = readings.split_at(cut.index(readings.len()));
            stack.commit(first).await;
            stack.commit(second).await;
            let mut by_series: BTreeMap<String, BTreeMap<Timestamp, f64>> = BTreeMap::new();
            for reading in &readings {
                by_series.entry(reading.key().parts().device.to_owned()).or_default().entry(reading.time).or_insert(reading.value);
            }
            let latest = stack.all_pages("/v1/latest?", limit).await;
            let series = stack.all_pages("/v1/series?", limit).await;
            prop_assert_eq!((latest.len(), series.len()), (by_series.len(), by_series.len()));
            for (((device, readings), latest), series) in by_series.iter().zip(latest).zip(series) {
                let ((first, _), (last, value)) = (readings.first_key_value().unwrap(), readings.last_key_value().unwrap());
                prop_assert_eq!(latest, json!({"time": last.to_string(), "device": device, "metric": "m", "tags": {}, "value": value}));
                let expected = json!({"device": device, "metric": "m", "tags": {}, "unit": null, "first_time": first.to_string(), "last_time": last.to_string()});
                prop_assert_eq!(series, expected);
            }
            Ok(())
        })?;
    }
}
