//! The data directory, its disk, and the key that signs tokens.

use super::Line;
use crate::config::Settings;
use crate::wiring;
use headwater_web::Ring;
use std::fs::Metadata;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the disk is asked to sync.
const SYNCS: usize = 15;
/// A sync above this keeps a client that waits for each answer under 50 writes a second.
const SLOW: Duration = Duration::from_millis(20);
/// No disk writes in less: something in between answers for it.
const TOO_FAST: Duration = Duration::from_micros(15);
/// The part of the disk that is kept free for making room again, and at most so much (docs/operating.md, "Limits").
const RESERVE_PARTS: u64 = 20;
const RESERVE_BYTES: u64 = 256 << 20;

/// What `statfs` calls file systems on which SQLite's locks or shared memory cannot be relied on: NFS, SMB, SMB 2.
const NETWORK: [i64; 3] = [0x6969, 0x517b, 0xfe53_4d42];
const TMPFS: i64 = 0x0102_1994;

pub(super) fn look(settings: &Settings) -> Vec<Line> {
    let dir = settings.data_dir.as_path();
    if !wiring::examine::has_directory(settings) {
        return vec![key(settings)];
    }
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == ErrorKind::NotFound => {
            return vec![Line::ok("data directory", format!("{} is not there yet; the first start makes it", dir.display()))];
        }
        Err(why) => return vec![Line::fail("data directory", format!("{}: {why}", dir.display()), "look at its rights and its disk")],
    };
    let mut lines = vec![rights(dir, &metadata), held(settings), room(dir)];
    lines.extend(kind(dir));
    lines.extend([speed(dir), key(settings)]);
    lines
}

fn rights(dir: &Path, metadata: &Metadata) -> Line {
    const NAME: &str = "data directory";
    let (mode, owner, ours) = (metadata.mode() & 0o7777, metadata.uid(), rustix::process::geteuid().as_raw());
    if !metadata.is_dir() {
        return Line::fail(NAME, format!("{} is no directory", dir.display()), "choose another with data_dir or --data-dir");
    }
    if owner != ours && ours != 0 {
        let advice = "run this, and the server, as its owner";
        return Line::fail(NAME, format!("{} belongs to user {owner}, and this runs as {ours}", dir.display()), advice);
    }
    if mode & 0o077 != 0 {
        let advice = format!("chmod 700 {}", dir.display());
        return Line::warn(NAME, format!("{} has mode {mode:04o}: others can look into it", dir.display()), advice);
    }
    if owner != ours {
        let advice = "what a server makes as another user its owner cannot write; start it as the owner";
        return Line::warn(NAME, format!("{} belongs to user {owner}, and this runs as root", dir.display()), advice);
    }
    Line::ok(NAME, format!("{} is for its owner alone", dir.display()))
}

fn held(settings: &Settings) -> Line {
    match wiring::examine::holder(settings) {
        Some(holder) => Line::ok("lock", format!("held by {holder}")),
        None => Line::ok("lock", "held by nobody: no server runs on it"),
    }
}

fn room(dir: &Path) -> Line {
    const NAME: &str = "disk";
    let disk = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk,
        Err(why) => return Line::warn(NAME, format!("it does not say how much is free: {why}"), "look with df"),
    };
    let (size, free) = (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_bavail.saturating_mul(disk.f_frsize));
    let reserve = RESERVE_BYTES.min(size / RESERVE_PARTS);
    let seen = format!("{} MiB of {} MiB are free", free >> 20, size >> 20);
    if free < reserve {
        let seen = format!("{seen}, less than the {} MiB that are kept for making room: writes are answered 503", reserve >> 20);
        return Line::fail(NAME, seen, "make room, or move the data directory to a larger disk (backup, restore)");
    }
    if free < reserve.saturating_mul(4) {
        return Line::warn(NAME, format!("{seen}; below {} MiB writes are answered 503", reserve >> 20), "make room soon");
    }
    Line::ok(NAME, seen)
}

fn kind(dir: &Path) -> Option<Line> {
    let kind = rustix::fs::statfs(dir).ok()?.f_type as i64;
    if NETWORK.contains(&kind) {
        return Some(Line::fail(
            "file system",
            "the data directory is on another machine's disk",
            "SQLite's write-ahead log needs a local one",
        ));
    }
    (kind == TMPFS).then(|| {
        Line::warn("file system", "the data directory is in memory: a restart of the machine loses it", "put it on a disk (data_dir)")
    })
}

/// How long a write and its sync take: what every acknowledgement waits for.
fn speed(dir: &Path) -> Line {
    const NAME: &str = "fsync";
    match median_sync(dir) {
        Err(why) => Line::fail(NAME, format!("nothing can be written to {}: {why}", dir.display()), "look at its rights and its disk"),
        Ok(took) => {
            let seen = format!("a write of 4 KiB is on the disk after {:.2} ms (median of {SYNCS})", took.as_secs_f64() * 1e3);
            if took > SLOW {
                return Line::warn(
                    NAME,
                    seen,
                    "appends are committed together, so many senders do not mind; a single one waits this long for each answer",
                );
            }
            if took < TOO_FAST {
                return Line::warn(
                    NAME,
                    seen,
                    "no disk is so fast: memory, or a layer that does not sync, loses what was acknowledged with the power",
                );
            }
            Line::ok(NAME, seen)
        }
    }
}

fn median_sync(dir: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(dir)?;
    file.write_all(&[0; 4096])?;
    file.as_file().sync_all()?;
    let mut took = Vec::with_capacity(SYNCS);
    for n in 0..SYNCS {
        let began = Instant::now();
        file.as_file().write_all_at(&[n as u8; 4096], 0)?;
        file.as_file().sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[SYNCS / 2])
}

fn key(settings: &Settings) -> Line {
    const NAME: &str = "token key";
    let path = settings.key_file();
    let shown = path.display();
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == ErrorKind::NotFound && settings.auth.key_file().is_none() => {
            return Line::ok(NAME, format!("{shown} is not there yet; the first start makes it"));
        }
        Err(why) => {
            return Line::fail(NAME, format!("{shown}: {why}"), "auth.key_file has to be there and readable before a server starts");
        }
    };
    let signs = match Ring::open(&path) {
        Ok(ring) => ring.signs(),
        Err(why) => return Line::fail(NAME, format!("{shown} cannot be used: {why:#}"), "put back the right one (an Ed25519 key in PEM)"),
    };
    match (signs, metadata.mode() & 0o077) {
        (true, 0) => Line::ok(NAME, format!("{shown} signs, and is for its owner alone")),
        (true, _) if settings.auth.key_file().is_some() && metadata.mode() & 0o007 == 0 => {
            Line::ok(NAME, format!("{shown} signs, and is for its owner and a group"))
        }
        (true, _) => {
            let seen = format!("{shown} has mode {:04o}: others can sign tokens with it", metadata.mode() & 0o7777);
            Line::fail(NAME, seen, format!("chmod 600 {shown}; whoever may have read it: headwater token rotate-key --revoke"))
        }
        (false, _) => Line::ok(NAME, format!("{shown} is a public one: tokens are verified here and not made")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::config::{self, Flags};
    use crate::environment::Environment;
    use std::os::unix::fs::PermissionsExt;

    fn settings(dir: &Path) -> Settings {
        config::load(None, &Environment::default(), Flags::default().with("data_dir", "--data-dir", dir.to_str())).unwrap()
    }

    #[test]
    fn rights_that_let_others_in_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let set = |mode: u32| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        set(0o755);
        assert_eq!(look(&settings(dir.path()))[0].state, State::Warn);
        set(0o700);
        assert_eq!(look(&settings(dir.path()))[0].state, State::Ok);
    }

    #[test]
    fn a_key_that_others_can_read_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        assert_eq!(key(&settings).state, State::Ok);
        headwater_web::SigningKey::open_or_create(&settings.key_file()).unwrap();
        assert!(key(&settings).state == State::Ok && key(&settings).seen.contains("signs"));
        std::fs::set_permissions(settings.key_file(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(key(&settings).advice.contains("chmod 600"));
        std::fs::write(settings.key_file(), "nonsense").unwrap();
        assert_eq!(key(&settings).state, State::Fail);
    }

    #[test]
    fn the_speed_of_the_disk_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(median_sync(dir.path()).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
