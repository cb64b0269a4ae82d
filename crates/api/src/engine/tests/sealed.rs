//! Answers are the same sealed or not, and take rollups where they can.

use super::counting::{Counting, Counts};
use crate::Config;
use crate::testing::{Reading, Stack, at, reading};
use axum::http::header;
use headwater_contract::MemoryStore;
use headwater_contract::builders::{NO_LIMITS, new_series};
use headwater_core::series::Shard;
use headwater_core::store::Ingestion;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Memory for all answers of a test.
const BUDGET: usize = 256 << 20;
/// Midnight before the start, in seconds from it.
const MIDNIGHT: i64 = -15 * 3600;

/// What happens to one shard, or to all of the two that are used.
#[derive(Debug, Clone)]
enum Step {
    Seal(Vec<u8>, usize),
    Merge(u8, usize),
    Nothing,
}

#[derive(Debug, Clone)]
struct Case {
    batches: Vec<(Vec<Reading>, Step)>,
    question: String,
    limit: usize,
    gather_readings: usize,
    block_bytes: usize,
}

/// Times that fall into few hours, often the same ones, over three days; enough for rollups.
fn a_reading() -> impl Strategy<Value = Reading> {
    let dense = (prop::sample::select(vec![-47i64, -46, -20, -15, -2]), 0i64..90).prop_map(|(hour, n)| hour * 3600 + n * 40);
    let spread = (-49i64 * 60..0).prop_map(|minute| minute * 60);
    let device = prop_oneof![4 => Just("d0"), 2 => Just("d2"), 1 => Just("d1"), 1 => Just("d3")];
    (device, prop_oneof![5 => dense, 1 => spread], 0i32..4)
        .prop_map(|(device, second, value)| reading(device, "m").unit(&device[..1]).at(at(second)).value(f64::from(value) / 10.0))
}

fn a_step() -> impl Strategy<Value = Step> {
    let shards = prop_oneof![Just(vec![0u8, 1]), Just(vec![0]), Just(vec![1])];
    let seal = (shards, prop_oneof![Just(usize::MAX), 1usize..300]).prop_map(|(shards, most)| Step::Seal(shards, most));
    prop_oneof![3 => seal, 1 => (0u8..2, 2usize..5).prop_map(|(shard, most)| Step::Merge(shard, most)), 1 => Just(Step::Nothing)]
}

fn a_range() -> impl Strategy<Value = (i64, i64)> {
    let whole = (-3i64..1, 1i64..4).prop_map(|(day, days)| (MIDNIGHT + day * 86_400, MIDNIGHT + (day + days) * 86_400));
    let hours = (-50i64..0, 1i64..60).prop_map(|(hour, hours)| (hour * 3600, (hour + hours) * 3600));
    let ragged = (-180_000i64..0, 1i64..200_000).prop_map(|(from, len)| (from, from + len));
    prop_oneof![whole, hours, ragged]
}

fn a_question() -> impl Strategy<Value = String> {
    let step = prop::sample::select(vec![
        "",
        "&step=1h",
        "&step=1d",
        "&step=15m",
        "&step=90m",
        "&step=150m",
        "&step=25h",
        "&step=61h",
        "&step=7d",
    ]);
    let group = prop::sample::select(vec!["", "&group_by=none", "&group_by=device"]);
    let fill = prop::sample::select(vec!["", "", "&fill=null"]);
    let stats = (step, group, fill).prop_map(|(step, group, fill)| {
        format!("/v1/stats?stats=count,sum,avg,min,max,stddev,first,last,p0,p50,p95,p99.9{step}{group}{fill}")
    });
    (prop_oneof![4 => stats, 1 => Just("/v1/readings?".to_owned())], a_range())
        .prop_map(|(route, (from, to))| format!("{route}&from={}&to={}", at(from), at(to)))
}

fn a_case() -> impl Strategy<Value = Case> {
    let batches = prop::collection::vec((prop::collection::vec(a_reading(), 0..250), a_step()), 1..6);
    let limit = prop_oneof![1usize..6, Just(1_000)];
    let bytes = prop_oneof![Just(1usize), 1usize..20_000];
    (batches, a_question(), limit, prop_oneof![1usize..40, Just(100_000)], bytes).prop_map(
        |(batches, question, limit, gather_readings, block_bytes)| Case { batches, question, limit, gather_readings, block_bytes },
    )
}

/// Registers d0 and d2 into one shard, d1 and d3 into another.
async fn register(store: &MemoryStore) {
    let names = (0..66).map(|n| match n {
        0 | 1 => format!("d{n}"),
        64 | 65 => format!("d{}", n - 62),
        _ => format!("none{n}"),
    });
    store.register(names.map(|name| new_series(&name, "m")).collect(), NO_LIMITS).await.unwrap();
}

impl Case {
    async fn stack(&self, config: Config, seals: bool) -> Stack {
        let stack = Stack::with(config);
        register(&stack.store).await;
        for (readings, step) in &self.batches {
            stack.commit(readings).await;
            match step {
                Step::Seal(shards, most) if seals => {
                    for &shard in shards {
                        stack.seal_some(Shard(shard), *most).await;
                    }
                }
                Step::Merge(shard, most) if seals => stack.merge(Shard(*shard), *most).await,
                _ => {}
            }
        }
        stack
    }
}

/// The bytes of all pages.
async fn pages(stack: &Stack, question: &str, limit: usize) -> Vec<String> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = stack.get(&format!("{question}&limit={limit}{cursor}")).await.ok();
        pages.push(page.text());
        match page.json()["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn answers_have_the_same_bytes_sealed_or_not(case in a_case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let config = Config { gather_readings: case.gather_readings, block_bytes: case.block_bytes, ..Config::default() };
            let (open, sealed) = (case.stack(Config::default(), false).await, case.stack(config, true).await);
            for round in ["by the schedule", "all of it"] {
                let (of_sealed, of_open) = (sealed.get(&case.question).await.ok(), open.get(&case.question).await.ok());
                prop_assert_eq!(of_sealed.text(), of_open.text(), "sealed {}", round);
                prop_assert_eq!(of_sealed.header(header::ETAG), of_open.header(header::ETAG), "sealed {}", round);
                prop_assert_eq!(pages(&sealed, &case.question, case.limit).await, pages(&open, &case.question, case.limit).await, "sealed {}", round);
                for list in ["/v1/latest?", "/v1/series?"] {
                    prop_assert_eq!(pages(&sealed, list, case.limit.max(3)).await, pages(&open, list, case.limit.max(3)).await, "sealed {}", round);
                }
                sealed.seal().await;
            }
            Ok(())
        })?;
    }
}

/// `n` readings of a series from a time on, some seconds apart.
fn steady(device: &str, from: i64, n: i64, apart: i64) -> Vec<Reading> {
    (0..n).map(|i| reading(device, "m").at(at(from + i * apart)).value((i * 37 % 1000) as f64 / 10.0)).collect()
}

/// A stack whose calls are counted; nothing is kept from one question to the next.
fn counted(config: Config) -> (Stack, Counting) {
    let config = Config { cache_bytes: 0, ..config };
    let store = MemoryStore::new();
    let counting = Counting::new(store.clone());
    (Stack::behind(Arc::new(counting.clone()), store, config, BUDGET), counting)
}

#[tokio::test]
async fn a_covered_question_reads_no_chunk_and_a_late_reading_opens_its_hour_alone() {
    let (stack, counting) = counted(Config::default());
    stack.commit(&steady("a", MIDNIGHT - 86_400, 8_640, 20)).await;
    stack.seal().await;
    let day = format!("from={}&to={}", at(MIDNIGHT - 86_400), at(MIDNIGHT));
    for (step, rollups) in [("1h", 24), ("2h", 24), ("1d", 1), ("7d", 1)] {
        stack.get(&format!("/v1/stats?{day}&step={step}")).await.ok();
        assert_eq!(counting.counts(), Counts { rollup_calls: 1, rollups, ..Counts::default() }, "{step}");
    }
    stack.get(&format!("/v1/stats?{day}&step=15m")).await.ok();
    let counts = counting.counts();
    assert!(counts.rollup_calls == 0 && counts.chunks > 0, "{counts:?}");

    let ragged = format!("from={}&to={}", at(MIDNIGHT - 86_399), at(MIDNIGHT + 86_399));
    stack.get(&format!("/v1/stats?{ragged}")).await.ok();
    let counts = counting.counts();
    assert!(counts.rollups == 46 && counts.chunks <= 8, "whole hours come from rollups, the ends from chunks: {counts:?}");

    stack.commit(&[reading("a", "m").at(at(MIDNIGHT - 43_190)).value(5.0)]).await;
    let got = stack.get(&format!("/v1/stats?{day}&step=1d&stats=count")).await.ok();
    assert_eq!(got.rows()[0]["count"], 4_321);
    let counts = counting.counts();
    assert!(counts.rollups == 1 + 24 && counts.chunks <= 3 && counts.block_calls > 0, "23 hours come from rollups: {counts:?}");
}

#[tokio::test]
async fn ten_years_cost_what_is_stored() {
    let (stack, counting) = counted(Config { max_readings: 1_000, ..Config::default() });
    for year in 0..10 {
        stack.commit(&steady("a", -year * 365 * 86_400 - 86_400, 500, 60)).await;
    }
    stack.seal().await;
    let got = stack.get("/v1/stats?from=2015-01-01T00:00:01Z&to=2026-01-01T00:00:00Z&stats=count").await.ok();
    assert_eq!(got.rows()[0]["count"], 5_000);
    let counts = counting.counts();
    assert!(counts.rollup_calls < 40 && counts.rollups <= 40 && counts.chunk_calls <= 4, "{counts:?}");
    let got = stack.get("/v1/readings?from=2015-01-01T00:00:00Z&to=2026-01-01T00:00:00Z").await;
    assert_eq!(got.problem().0, 422, "readings of chunks count among the cost");
}

#[tokio::test]
async fn many_series_take_few_calls() {
    let (stack, counting) = counted(Config::default());
    // Sparse and dense series, whose rollups exist in some hours.
    let readings: Vec<Reading> = (0..640).flat_map(|n| steady(&format!("d{n}"), MIDNIGHT, if n % 2 == 0 { 3 } else { 70 }, 50)).collect();
    stack.commit(&readings).await;
    stack.seal().await;
    let got = stack.get(&format!("/v1/stats?from={}&to={}&stats=count,p95", at(MIDNIGHT), at(MIDNIGHT + 86_400))).await.ok();
    assert_eq!(got.rows().len(), 640);
    let counts = counting.counts();
    // 64 shards; slices of up to 48 series touch nearly all of them.
    let visits = 64 * (640 / 48 + 5);
    assert!(counts.rollup_calls <= visits && counts.chunk_calls <= 4 * visits, "{counts:?}");
    assert_eq!((counts.rollups, counts.block_calls), (320, 0));
}

#[tokio::test]
async fn parts_take_every_rollup_once() {
    let store = MemoryStore::new();
    let counting = Counting::new(store.clone());
    let whole = Stack::on(store.clone(), Config::default(), BUDGET);
    whole.commit(&steady("a", MIDNIGHT - 3 * 86_400, 26_000, 10)).await;
    whole.seal().await;
    // Open readings of three days, more than fit at once.
    whole.commit(&steady("a", MIDNIGHT - 3 * 86_400 + 7, 100, 2_592)).await;
    whole.commit(&steady("b", MIDNIGHT - 3 * 86_400, 300, 864)).await;
    let config = Config { gather_readings: 60, block_bytes: 3_000, cache_bytes: 0, ..Config::default() };
    let parts = Stack::behind(Arc::new(counting.clone()), store, config, BUDGET);
    let range = format!("from={}&to={}", at(MIDNIGHT - 3 * 86_400 - 5), at(MIDNIGHT));
    for question in
        ["/v1/stats?", "/v1/stats?step=1d", "/v1/stats?step=1h&limit=1000", "/v1/stats?step=2h&group_by=none", "/v1/readings?limit=100000"]
    {
        let question = format!("{question}&{range}");
        counting.counts();
        let got = parts.get(&question).await.ok();
        assert!(got.bytes == whole.get(&question).await.ok().bytes, "{question}");
        if question.contains("stats") {
            assert!(counting.counts().rollups > 0, "{question}");
        }
    }
}

#[tokio::test]
async fn a_page_of_readings_reads_few_chunks() {
    let (stack, counting) = counted(Config { block_bytes: 4_000, ..Config::default() });
    for day in 0..20 {
        stack.commit(&steady("a", MIDNIGHT - (day + 1) * 86_400, 4_320, 20)).await;
        stack.commit(&steady("b", MIDNIGHT - (day + 1) * 86_400, 10, 60)).await;
    }
    stack.seal().await;
    let range = format!("from={}&to={}", at(MIDNIGHT - 20 * 86_400), at(MIDNIGHT));
    assert_eq!(stack.get(&format!("/v1/readings?{range}&limit=100")).await.ok().rows().len(), 100);
    let counts = counting.counts();
    assert!(counts.chunks <= 30, "{counts:?}");
}

#[tokio::test]
async fn the_newest_reading_is_read_from_one_chunk_or_none() {
    let (stack, counting) = counted(Config::default());
    stack.commit(&steady("a", -86_400, 4_000, 20)).await;
    stack.commit(&steady("b", -86_400, 4_000, 20)).await;
    stack.seal().await;
    // Of the same time as the newest sealed one of `a`, and newer than that of `b`.
    stack.commit(&[reading("a", "m").at(at(-86_400 + 3_999 * 20)).value(-1.0), reading("b", "m").at(at(-5)).value(7.0)]).await;
    counting.counts();
    let rows = stack.get("/v1/latest").await.ok().rows();
    assert_eq!((rows[0]["value"].as_f64(), rows[1]["value"].as_f64()), (Some((3_999 * 37 % 1000) as f64 / 10.0), Some(7.0)));
    assert_eq!(rows[1]["time"], "2025-11-23T14:59:55Z");
    let with_values = counting.counts().chunks;
    stack.get("/v1/series").await.ok();
    assert_eq!(with_values, counting.counts().chunks + 1, "beside the edges");
}

#[tokio::test]
async fn a_damaged_chunk_is_an_error_and_never_an_answer() {
    let (stack, counting) = counted(Config::default());
    stack.commit(&steady("a", -600, 10, 20)).await;
    stack.seal().await;
    counting.damages.store(true, Ordering::Relaxed);
    for question in ["stats", "readings", "latest"] {
        let got = stack.get(&format!("/v1/{question}")).await;
        assert_eq!(got.problem(), (500, "internal".to_owned(), vec![]), "{question}");
    }
}
