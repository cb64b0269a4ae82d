//! What is written is read back, and says what a store must hold.

use super::{fleet, readings};
use crate::encode::Format;
use crate::faults::{Fault, Faults};
use crate::journal::{Account, Expected, Journal, Outcome, Row, Run};
use crate::stream::{Batch, Reading, Stream};
use headwater_core::time::{SECOND, Timestamp};
use std::path::PathBuf;
use tempfile::TempDir;

fn run() -> Run {
    Run { fleet: fleet(10, SECOND), faults: Faults::NONE.with(Fault::Malformed, 0.2), format: Format::Line }
}

struct Written {
    dir: TempDir,
    batches: Vec<Batch>,
}

impl Written {
    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.ndjson")
    }

    /// Two requests: one acknowledged the second time, one without an answer.
    fn new() -> Self {
        let mut stream = Stream::new(run().fleet, run().faults, 20);
        let written = Self { dir: tempfile::tempdir().unwrap(), batches: (0..2).map(|_| stream.next_batch()).collect() };
        let mut journal = Journal::open(&written.path(), &run()).unwrap();
        journal.intend(&run().fleet, &written.batches[0]).unwrap();
        journal.outcome(0, Outcome::Unknown, Some(503)).unwrap();
        journal.intend(&run().fleet, &written.batches[1]).unwrap();
        journal.outcome(0, Outcome::Ack, Some(204)).unwrap();
        written
    }
}

fn row(reading: &Reading) -> Row {
    let (device, metric) = (run().fleet.device(reading.device), run().fleet.metrics()[reading.metric].name.to_owned());
    Row { device, metric, time: reading.time.0, value: reading.value.value() }
}

#[test]
fn a_journal_is_read_as_it_was_written() {
    let written = Written::new();
    let account = Journal::read(&written.path()).unwrap();
    assert_eq!((account.runs, account.cut), (vec![run()], false));
    for (request, batch) in account.requests.iter().zip(&written.batches) {
        let good: Vec<(u64, Row)> = batch.good().map(|reading| (reading.sample, row(reading))).collect();
        assert_eq!((request.id, &request.readings), (batch.number, &good));
        assert_eq!(request.refused, (batch.readings.len() - good.len()) as u64);
    }
    let outcomes: Vec<&[Outcome]> = account.requests.iter().map(|request| request.outcomes.as_slice()).collect();
    assert_eq!(outcomes, [&[Outcome::Unknown, Outcome::Ack][..], &[]]);
}

#[test]
fn a_last_line_that_was_cut_is_left_out_wherever_it_was_cut() {
    let written = Written::new();
    let whole = std::fs::read(written.path()).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let start = whole.len() - lines[lines.len() - 1].len();
    for end in start + 1..whole.len() {
        std::fs::write(written.path(), &whole[..end]).unwrap();
        let account = Journal::read(&written.path()).unwrap();
        assert!(account.cut && !account.requests[0].is_acked(), "cut at {end}");
    }
    // Another run goes on after the cut.
    std::fs::write(written.path(), &whole[..whole.len() - 5]).unwrap();
    let mut journal = Journal::open(&written.path(), &run()).unwrap();
    journal.intend(&run().fleet, &written.batches[0]).unwrap();
    journal.outcome(0, Outcome::Ack, Some(204)).unwrap();
    let account = Journal::read(&written.path()).unwrap();
    assert_eq!((account.runs.len(), account.requests.len(), account.cut), (2, 3, true));
    assert!(!account.requests[0].is_acked() && account.requests[2].is_acked());
}

#[test]
fn damage_that_is_no_cut_is_told_with_its_line() {
    let written = Written::new();
    let text = std::fs::read_to_string(written.path()).unwrap();
    for (damaged, line) in [
        (text.replacen("\"readings\"", "readings", 1), "line 2"),
        (text.replacen("unknown", "perhaps", 1), "line 3"),
        (text.replacen("\"journal\":1", "\"journal\":2", 1), "line 1"),
    ] {
        std::fs::write(written.path(), damaged).unwrap();
        let why = format!("{:#}", Journal::read(&written.path()).unwrap_err());
        assert!(why.contains(line), "{why}");
    }
}

#[test]
fn the_totals_have_bounds_by_what_is_known() {
    let written = Written::new();
    let expected = Journal::read(&written.path()).unwrap().expected();
    let (all, bad) = (20, readings(&written.batches[..1]).iter().filter(|reading| !reading.is_good()).count() as u64);
    // The first request is there once or twice, the second once or not at all.
    assert_eq!(expected.received, (all, 3 * all));
    assert!(bad > 0 && expected.dead.0 == bad && expected.dead.1 > 2 * bad);
}

/// The expectation of one key, for which `steps` were written: `+n` sends value n with request n, the rest are outcomes.
fn expected(steps: &[(u64, Option<Outcome>)]) -> Expected {
    let mut text = String::from(
        "{\"journal\":1,\"seed\":1,\"devices\":1,\"metrics\":1,\"start\":0,\"interval\":1000,\"format\":\"json\",\"faults\":\"\"}\n",
    );
    for (request, outcome) in steps {
        text += &match outcome {
            None => format!("{{\"id\":{request},\"readings\":[[\"d\",\"m\",0,5,{}]],\"refused\":0}}\n", (*request as f64).to_bits()),
            Some(outcome) => format!("{{\"id\":{request},\"outcome\":\"{}\",\"status\":null}}\n", outcome.as_str()),
        };
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j");
    std::fs::write(&path, text).unwrap();
    let account: Account = Journal::read(&path).unwrap();
    account.expected()
}

#[test]
fn the_first_acknowledged_value_must_be_there_unless_another_may_have_come_before_it() {
    let (ack, nack, unknown) = (Some(Outcome::Ack), Some(Outcome::Nack), Some(Outcome::Unknown));
    // What is written, and which values a store may then hold; `None` = nothing.
    type Case<'a> = (&'a [(u64, Option<Outcome>)], &'a [Option<u64>]);
    let cases: &[Case<'_>] = &[
        (&[(1, None), (1, ack), (2, None), (2, ack)], &[Some(1)]),
        (&[(1, None), (2, None), (1, ack), (2, ack)], &[Some(1), Some(2)]),
        (&[(1, None), (2, None), (2, ack), (1, ack)], &[Some(1), Some(2)]),
        (&[(1, None), (1, unknown), (2, None), (2, ack)], &[Some(1), Some(2)]),
        (&[(1, None), (1, nack), (2, None), (2, ack)], &[Some(2)]),
        (&[(1, None), (1, unknown), (1, nack), (2, None), (2, ack)], &[Some(1), Some(2)]),
        (&[(1, None), (1, ack), (2, None), (2, unknown)], &[Some(1)]),
        (&[(1, None), (2, None)], &[None, Some(1), Some(2)]),
        (&[(1, None), (1, nack)], &[None]),
    ];
    for (steps, allowed) in cases {
        let expected = expected(steps);
        for found in [None, Some(1), Some(2), Some(3)] {
            let rows = found.map(|value: u64| Row { device: "d".to_owned(), metric: "m".to_owned(), time: 5, value: value as f64 });
            let differences = expected.differences(rows);
            assert_eq!(differences.is_empty(), allowed.contains(&found), "{steps:?}, found {found:?}: {differences:?}");
        }
    }
}

#[test]
fn what_is_lost_doubled_changed_or_invented_is_a_difference() {
    let written = Written::new();
    let expected = Journal::read(&written.path()).unwrap().expected();
    let right: Vec<Row> = written.batches[0].good().map(row).collect();
    assert!(expected.differences(right.clone()).is_empty());
    let changed = |change: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = right.clone();
        change(&mut rows);
        expected.differences(rows).len()
    };
    assert_eq!(changed(&|rows| drop(rows.remove(3))), 1);
    assert_eq!(changed(&|rows| rows.push(rows[3].clone())), 1);
    assert_eq!(changed(&|rows| rows[3].value += 0.01), 1);
    assert_eq!(changed(&|rows| rows[3].time = Timestamp(rows[3].time).plus(1).0), 2);
    assert!(expected.differences(written.batches.iter().flat_map(Batch::good).map(row)).is_empty(), "the other one may be there");
}
