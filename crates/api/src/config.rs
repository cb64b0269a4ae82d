//! What can be configured of the api role.
//!
//! Owns: [`Config`], its defaults and its check. Does not know: files, the environment.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits of queries. The defaults suit a machine of any size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long one query may take, from its snapshot to its last row.
    #[serde(with = "headwater_web::duration")]
    pub query_deadline: Duration,
    /// Most stored readings that one query may look at (422 `query_too_expensive` beyond).
    pub max_readings: u64,
    /// Most rows that `fill=null` may spread over the groups of one page (422 `query_too_expensive` beyond).
    pub max_rows: u64,
    /// Rows of a page when `limit` is not given.
    pub default_limit: usize,
    /// Most memory that one answer may take while it is built, in bytes (422 `query_too_expensive` beyond). All answers
    /// together are held by the process-wide budget.
    pub max_answer_bytes: usize,
    /// How long a query waits for its share of that budget before it is answered 503.
    #[serde(with = "headwater_web::duration")]
    pub memory_wait: Duration,
    /// Readings that are gathered at once (40 bytes each); a range with more is taken in parts.
    pub gather_readings: usize,
    /// Bytes of blocks that are decoded at once.
    pub block_bytes: usize,
    /// Bytes of rollups that are kept decoded for the next question; 0 keeps none.
    pub cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            query_deadline: Duration::from_secs(30),
            max_readings: 100_000_000,
            max_rows: 5_000_000,
            default_limit: 10_000,
            max_answer_bytes: 128 << 20,
            memory_wait: Duration::from_secs(10),
            gather_readings: 500_000,
            block_bytes: 4 << 20,
            cache_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// Everything that is wrong, each with the name of its key; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        check((second..=hour).contains(&self.query_deadline), "query_deadline: must be from 1s to 1h");
        check(self.max_readings > 0, "max_readings: must be at least 1");
        check(self.max_rows > 0, "max_rows: must be at least 1");
        check((1..=crate::params::MOST_ROWS).contains(&self.default_limit), "default_limit: must be from 1 to 100000");
        check(self.max_answer_bytes >= 16 << 20, "max_answer_bytes: must be at least 16 MiB");
        check(self.memory_wait <= hour, "memory_wait: must be at most 1h");
        check((1_000..=100_000_000).contains(&self.gather_readings), "gather_readings: must be from 1000 to 100000000");
        check((1 << 16..=1 << 30).contains(&self.block_bytes), "block_bytes: must be from 64 KiB to 1 GiB");
        check(self.cache_bytes <= 1 << 40, "cache_bytes: must be at most 1 TiB");
        check(
            self.gather_readings.saturating_mul(crate::engine::BYTES_PER_READING) + self.block_bytes <= self.max_answer_bytes,
            "gather_readings: 40 bytes for each and block_bytes must fit max_answer_bytes",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_come_back_from_their_text() {
        let config = Config::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config = Config { max_rows: 0, default_limit: 0, query_deadline: Duration::ZERO, ..Config::default() };
        let problems = config.validate();
        for name in ["max_rows", "default_limit", "query_deadline"] {
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name} in {problems:?}");
        }
        assert!(serde_json::from_str::<Config>(r#"{"max_row": 1}"#).is_err());
    }
}
