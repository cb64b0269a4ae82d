//! What everything is compared with: one row a reading into SQLite under the primary key (series, time), 50,000 sorted rows a
//! transaction, `synchronous=FULL`.

use rusqlite::Connection;
use std::time::Instant;

/// Rows a second over `rows` rows of 10,000 series.
pub(super) fn rows_per_second(rows: usize) -> anyhow::Result<f64> {
    let path = std::env::temp_dir().join(format!("headwater-baseline-{}.db", std::process::id()));
    let speed = insert(&path, rows);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        drop(std::fs::remove_file(name));
    }
    speed
}

fn insert(path: &std::path::Path, rows: usize) -> anyhow::Result<f64> {
    let mut conn = Connection::open(path)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.execute("CREATE TABLE readings (series INTEGER, time INTEGER, value REAL, PRIMARY KEY (series, time)) WITHOUT ROWID", [])?;
    let started = Instant::now();
    let mut done = 0;
    while done < rows {
        // Five rounds of 10,000 series: sorted, each series has five rows next to each other.
        let transaction = conn.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO readings VALUES (?1, ?2, ?3)")?;
            for series in 0..super::load::SERIES as i64 {
                for round in 0..5 {
                    let time = (done as i64 / super::load::SERIES as i64 + round) * 10_000_000;
                    insert.execute((series, time, (2_000 + (series + round) % 500) as f64 / 100.0))?;
                }
            }
        }
        transaction.commit()?;
        done += 5 * super::load::SERIES;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
