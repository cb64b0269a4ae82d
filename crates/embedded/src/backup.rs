//! A copy of the databases of a data directory that another process may be writing to.
//!
//! Owns: [`copy`]: one state of each database, and that the log's state covers the store's. Does not know: checksums, manifests, keys, where
//! copies are kept.
//!
//! A copy is made page by page from a read transaction: a consistent state, whatever is committed meanwhile. Both states are pinned before the
//! first page is copied, the store's first: the log's is then the later one, and holds every record from the store's positions on unless it was
//! trimmed in the instant between; that is looked at, and both are pinned again. Nothing that the log deletes afterwards matters, so the running
//! process needs to hold nothing back. What it writes meanwhile stays in its write-ahead logs (questions go on; docs/operating.md).
//!
//! Invariants: the source is only read; nothing that exists is written over; a copy is on the disk when this returns; it is given up before
//! the room is gone that the running process keeps for itself.

use crate::error::OpenError;
use crate::migrations::Migration;
use crate::space::Space;
use crate::sqlite::{self, PAGE_BYTES, Use, uint};
use crate::{Config, LOG_FILE, STORE_FILE, directory, migrations};
use headwater_core::log::{LogId, Position};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

const POSITIONS: &str = include_str!("sql/store/positions.sql");
const LOAD: &str = include_str!("sql/log/load.sql");

/// Pages that are copied between two looks at the room that is left: 8 MiB.
const STEP_PAGES: i32 = 2_048;
/// How often both states are pinned anew. The log is trimmed now and then, and hardly ever beyond what was applied a moment ago.
const TRIES: u32 = 5;
/// Only a person's `sqlite3` can be in the way of a reader.
const PAUSE: Duration = Duration::from_millis(50);

/// Which databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Both.
    StoreAndLog,
    /// The store alone: its log is elsewhere.
    Store,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// How far the copied store had applied which log.
    pub positions: Vec<Position>,
    /// The copied log, where it was wanted.
    pub log: Option<CopiedLog>,
}

/// What a copied log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedLog {
    /// Which log it is.
    pub id: LogId,
    /// Its first record.
    pub start: u64,
    /// The number after its last.
    pub end: u64,
}

/// Copies the databases of `dir` into the directory `to`, where they must not be yet, beside a server that has them open or without one. `told`
/// hears how many bytes of how many are copied. Blocks.
///
/// # Errors
/// When there is nothing to copy, when another version wrote it, when there is no room, when the system says no, or when the log does not hold
/// what the store has not applied. What was begun stays in `to`.
pub fn copy(dir: &Path, to: &Path, files: Files, told: &mut dyn FnMut(u64, u64)) -> Result<Copied, OpenError> {
    let pinned = Pinned::of(dir, files)?;
    let room = Room::new(dir, to);
    let all = pinned.bytes()?;
    room.for_all(all)?;
    let mut done = 0;
    for (conn, name) in pinned.databases() {
        let copied = pages(conn, &to.join(name), &room, &mut |bytes| told(done + bytes, all));
        done += copied.map_err(|why| why.of(name))?;
    }
    drop(pinned);
    looked_at(to, files)
}

/// The log of a data directory as it is now, beside a server or without one.
///
/// # Errors
/// When there is none, when another version wrote it, or when the system says no.
pub fn look_at_log(dir: &Path) -> Result<CopiedLog, OpenError> {
    let log = open(dir, LOG_FILE, migrations::LOG)?;
    state(&log).map_err(OpenError::doing(format!("cannot read {LOG_FILE}")))
}

/// One state of each database.
struct Pinned {
    store: Connection,
    log: Option<Connection>,
}

impl Pinned {
    fn of(dir: &Path, files: Files) -> Result<Self, OpenError> {
        let store = open(dir, STORE_FILE, migrations::STORE)?;
        let log = (files == Files::StoreAndLog).then(|| open(dir, LOG_FILE, migrations::LOG)).transpose()?;
        let pinned = Self { store, log };
        let mut tries = 0;
        loop {
            let gap = pinned.pin().map_err(OpenError::doing("cannot begin to read the data directory"))?;
            tries += 1;
            match gap {
                None => return Ok(pinned),
                Some(gap) if tries == TRIES => return Err(OpenError::Damaged(gap)),
                Some(_) => pinned.release().map_err(OpenError::doing("cannot end reading the data directory"))?,
            }
        }
    }

    /// Pins the store's state, then the log's; says what is missing between them.
    fn pin(&self) -> rusqlite::Result<Option<String>> {
        self.store.execute_batch("BEGIN DEFERRED")?;
        let positions = positions(&self.store)?;
        let Some(log) = &self.log else { return Ok(None) };
        log.execute_batch("BEGIN DEFERRED")?;
        Ok(missing(&positions, &state(log)?))
    }

    fn release(&self) -> rusqlite::Result<()> {
        self.store.execute_batch("ROLLBACK")?;
        self.log.iter().try_for_each(|log| log.execute_batch("ROLLBACK"))
    }

    fn databases(&self) -> impl Iterator<Item = (&Connection, &'static str)> {
        // The log first: it is what changes fastest, and while its state is pinned its write-ahead log grows.
        self.log.iter().map(|log| (log, LOG_FILE)).chain([(&self.store, STORE_FILE)])
    }

    fn bytes(&self) -> Result<u64, OpenError> {
        let pages = |(conn, _): (&Connection, _)| conn.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0));
        let pages: rusqlite::Result<Vec<i64>> = self.databases().map(pages).collect();
        let pages = pages.map_err(OpenError::doing("cannot read the size of the data directory"))?;
        Ok(pages.into_iter().map(uint).sum::<u64>() * PAGE_BYTES)
    }
}

fn open(dir: &Path, name: &str, known: &[Migration]) -> Result<Connection, OpenError> {
    let path = dir.join(name);
    if !path.is_file() {
        return Err(OpenError::Damaged(format!("there is nothing to copy in the data directory {}: {name} is missing", dir.display())));
    }
    // With a database in it the directory is not new, so it is never marked here.
    directory::check_format(dir)?;
    let conn = sqlite::open(&path, Use::Read)?;
    migrations::check(&conn, name, known)?;
    Ok(conn)
}

fn positions(store: &Connection) -> rusqlite::Result<Vec<Position>> {
    let mut statement = store.prepare(POSITIONS)?;
    let rows = statement.query_map([], |row| {
        let crc: Option<i64> = row.get(3)?;
        Ok(Position {
            log: LogId(row.get(0)?),
            partition: row.get(1)?,
            next: uint(row.get(2)?),
            crc: crc.and_then(|crc| u32::try_from(crc).ok()),
        })
    })?;
    rows.collect()
}

fn state(log: &Connection) -> rusqlite::Result<CopiedLog> {
    log.query_row(LOAD, [], |row| Ok(CopiedLog { id: LogId(row.get(0)?), end: uint(row.get(1)?), start: uint(row.get(2)?) }))
}

/// Why a store with these positions could not go on in that log.
fn missing(positions: &[Position], log: &CopiedLog) -> Option<String> {
    let CopiedLog { id, start, end } = log;
    let mut alive = positions.iter().filter(|position| !position.log.is_retired());
    alive.find_map(|Position { log, next, .. }| {
        if log != id {
            return Some(format!("the store has applied the log {log}, but the log that lies beside it is {id}"));
        }
        (!(*start..=*end).contains(next)).then(|| {
            format!("the store goes on at record {next}, but the log {id} holds records {start} to {end} only: it was trimmed meanwhile")
        })
    })
}

/// Why pages were not copied.
enum Trouble {
    Sql(rusqlite::Error),
    System(io::Error),
    NoRoom(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Trouble {
    fn of(self, name: &str) -> OpenError {
        let doing = format!("cannot copy {name}");
        match self {
            Self::Sql(error) => OpenError::doing(doing)(error),
            Self::System(error) => OpenError::doing(doing)(error),
            Self::NoRoom(words) => OpenError::Failed { doing, source: words.into() },
        }
    }
}

/// Copies one database to a new file, on the disk when this returns; gives its bytes.
fn pages(source: &Connection, to: &Path, room: &Room, told: &mut dyn FnMut(u64)) -> Result<u64, Trouble> {
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?);
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Nobody else knows the file, and it counts only as a whole: it is synced once, at the end.
    target.execute_batch("PRAGMA synchronous=OFF")?;
    target.pragma_update(None, "journal_mode", "OFF")?;
    let backup = Backup::new(source, &mut target)?;
    let copied = loop {
        let step = backup.step(STEP_PAGES)?;
        let progress = backup.progress();
        let copied = uint(i64::from(progress.pagecount - progress.remaining)) * PAGE_BYTES;
        told(copied);
        match step {
            StepResult::Done => break copied,
            StepResult::More => room.left()?,
            _ => thread::sleep(PAUSE),
        }
    };
    drop(backup);
    target.close().map_err(|(_, error)| error)?;
    File::open(to)?.sync_all()?;
    Ok(copied)
}

/// The room on the disks of both directories.
struct Room {
    source: Space,
    target: Space,
}

impl Room {
    fn new(dir: &Path, to: &Path) -> Self {
        // What a running server keeps for itself.
        let reserve = Config::default().reserve_bytes;
        Self { source: Space::new(dir, reserve), target: Space::new(to, reserve) }
    }

    fn for_all(&self, bytes: u64) -> Result<(), OpenError> {
        self.target.shortage_after(bytes).map_or(Ok(()), |shortage| {
            Err(OpenError::Failed { doing: format!("there is no room for a copy of {bytes} bytes"), source: shortage.into() })
        })
    }

    /// The copy grows, and so may the write-ahead logs of whoever writes: before that one is refused room, this one gives up.
    fn left(&self) -> Result<(), Trouble> {
        self.source.shortage().or_else(|| self.target.shortage()).map_or(Ok(()), |shortage| Err(Trouble::NoRoom(shortage)))
    }
}

/// Reads the copies themselves, and compares them once more.
fn looked_at(to: &Path, files: Files) -> Result<Copied, OpenError> {
    let read = || -> rusqlite::Result<Copied> {
        let positions = positions(&open_copy(&to.join(STORE_FILE))?)?;
        let log = (files == Files::StoreAndLog).then(|| state(&open_copy(&to.join(LOG_FILE))?)).transpose()?;
        Ok(Copied { positions, log })
    };
    let copied = read().map_err(OpenError::doing("cannot read the copy"))?;
    let gap = copied.log.as_ref().and_then(|log| missing(&copied.positions, log));
    gap.map_or(Ok(copied), |gap| Err(OpenError::Damaged(gap)))
}

/// Opens a file that nobody writes to, so that nothing is made beside it.
fn open_copy(path: &Path) -> rusqlite::Result<Connection> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let escaped = |&byte: &u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = path.as_os_str().as_bytes().iter().map(escaped).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open as open_directory;
    use headwater_core::clock::SystemClock;
    use headwater_core::log::Record;
    use headwater_core::time::Timestamp;
    use std::fs;
    use std::sync::Arc;

    fn record(n: u64) -> Record {
        Record { partition: 0, received_at: Timestamp(1), count: 1, key: None, payload: vec![n as u8; 5_000].into() }
    }

    fn change(dir: &Path, file: &str, sql: &str) {
        Connection::open(dir.join(file)).unwrap().execute_batch(sql).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_made_while_records_are_appended_is_one_state_and_opens() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let embedded = open_directory(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap();
        let log = Arc::clone(&embedded.log);
        let writer = tokio::spawn(async move {
            for n in 0..400 {
                log.append(vec![record(n)]).await.unwrap();
            }
        });
        let mut ends = Vec::new();
        while !writer.is_finished() {
            let to = home.path().join(format!("a copy?{}", ends.len()));
            fs::create_dir(&to).unwrap();
            let (from, into) = (dir.path().to_owned(), to.clone());
            let copied =
                tokio::task::spawn_blocking(move || copy(&from, &into, Files::StoreAndLog, &mut |_, _| {})).await.unwrap().unwrap();
            assert_eq!(names(&to), [LOG_FILE, STORE_FILE], "nothing is left beside the copies");
            let copied = copied.log.unwrap();
            fs::write(to.join("format"), fs::read(dir.path().join("format")).unwrap()).unwrap();
            let opened = open_directory(&to, Config::default(), Arc::new(SystemClock)).unwrap();
            let bounds = opened.log.bounds().await.unwrap();
            assert_eq!((opened.log.identity(), bounds[0].start, bounds[0].end), (copied.id, copied.start, copied.end));
            ends.push(copied.end);
        }
        writer.await.unwrap();
        assert!(ends.is_sorted() && !ends.is_empty(), "{ends:?}");
        embedded.close();
    }

    #[test]
    fn a_log_that_does_not_hold_what_the_store_needs_is_refused_with_both_numbers() {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let embedded = open_directory(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap();
        let id = embedded.log.identity();
        embedded.close();
        let refused = || copy(dir.path(), to.path(), Files::StoreAndLog, &mut |_, _| {}).unwrap_err().to_string();
        change(dir.path(), STORE_FILE, &format!("INSERT INTO positions VALUES ('{id}', 0, 5, NULL, 0, 0)"));
        assert!(refused().contains("record 5") && refused().contains("records 0 to 0"), "{}", refused());
        change(dir.path(), LOG_FILE, "UPDATE log SET next = 9, applied = 7, start = 7");
        assert!(refused().contains("records 7 to 9"), "{}", refused());
        change(dir.path(), STORE_FILE, "UPDATE positions SET log = 'another'");
        assert!(refused().contains("log another"), "{}", refused());
        assert_eq!(names(to.path()), [""; 0]);
        change(dir.path(), STORE_FILE, "UPDATE positions SET log = 'retired:another'");
        copy(dir.path(), to.path(), Files::StoreAndLog, &mut |_, _| {}).unwrap();
    }

    #[test]
    fn nothing_is_copied_where_there_is_nothing_or_something_would_be_written_over() {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copied = || copy(dir.path(), to.path(), Files::Store, &mut |_, _| {});
        assert!(copied().unwrap_err().to_string().contains("nothing to copy"));
        assert_eq!(names(dir.path()), [""; 0]);
        open_directory(dir.path(), Config::default(), Arc::new(SystemClock)).unwrap().close();
        fs::write(to.path().join(STORE_FILE), "mine").unwrap();
        assert!(copied().unwrap_err().to_string().contains("cannot copy store.db"));
        assert_eq!(fs::read(to.path().join(STORE_FILE)).unwrap(), b"mine");
        fs::remove_file(to.path().join(STORE_FILE)).unwrap();
        assert_eq!(copied().unwrap().log, None);
        assert_eq!(names(to.path()), [STORE_FILE]);
    }
}
