//! Decompresses a body in steps, so that memory is reserved before it is used and a bomb is found early.
//!
//! Owns: [`unpack`] and its [`Unpacker`]. Does not know: formats, HTTP, where the bytes came from.
//! Invariant: at no time is more decompressed than `limit` bytes and one, and none of it before it was reserved.

use crate::content::Coding;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use headwater_web::{Error, Reservation};
use std::io::{self, Cursor, Read};
use std::time::Duration;

/// What one step yields at most: well under a millisecond of work.
const STEP: usize = 256 * 1024;
/// Compressed bodies up to this size take their first step where they are; everything else leaves the async workers.
const SMALL: usize = 64 * 1024;
/// RFC 9659 lets a sender of `zstd` use a window of at most 8 MB; a larger one is how a small body would take much memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why there are no bytes.
#[derive(Debug)]
pub(crate) enum Unpackable {
    /// More than the limit.
    TooLarge,
    /// Not what the coding says: damaged, cut, or followed by something else.
    Broken(String),
    /// No memory at the moment, or a fault of ours.
    Failed(Error),
}

/// Decompresses the whole of `encoded`. What is produced is added to `reservation`, waiting up to `wait` for each step.
///
/// # Errors
/// See [`Unpackable`].
pub(crate) async fn unpack(
    coding: Coding,
    encoded: Bytes,
    limit: usize,
    reservation: &mut Reservation,
    wait: Duration,
) -> Result<Vec<u8>, Unpackable> {
    let mut here = encoded.len() <= SMALL;
    let held = reservation.bytes();
    let mut unpacker = Unpacker::new(coding, encoded, limit).map_err(|broken| Unpackable::Broken(broken.to_string()))?;
    let working_bytes = unpacker.working_bytes;
    reservation.grow(working_bytes, wait).await.map_err(Unpackable::Failed)?;
    loop {
        reservation.grow(unpacker.make_room(), wait).await.map_err(Unpackable::Failed)?;
        let ended;
        (unpacker, ended) = if here { unpacker.step() } else { aside(unpacker).await? };
        here = false;
        match ended {
            Ok(false) => {}
            Ok(true) => {
                reservation.shrink_to(held + unpacker.out.capacity());
                return Ok(unpacker.out);
            }
            Err(problem) => return Err(problem),
        }
    }
}

type Stepped = (Unpacker, Result<bool, Unpackable>);

async fn aside(unpacker: Unpacker) -> Result<Stepped, Unpackable> {
    tokio::task::spawn_blocking(move || unpacker.step()).await.map_err(|panic| Unpackable::Failed(Error::internal(panic)))
}

struct Unpacker {
    reader: Box<dyn Read + Send>,
    /// What the decompressor keeps for itself, at most.
    working_bytes: usize,
    out: Vec<u8>,
    /// The capacity that was reserved for `out`.
    room: usize,
    limit: usize,
}

impl Unpacker {
    fn new(coding: Coding, encoded: Bytes, limit: usize) -> io::Result<Self> {
        let input = Cursor::new(encoded);
        let (reader, working_bytes): (Box<dyn Read + Send>, usize) = match coding {
            Coding::Identity => (Box::new(input), 0),
            Coding::Gzip => (Box::new(MultiGzDecoder::new(input)), 64 * 1024),
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                (Box::new(decoder), 1 << ZSTD_WINDOW_LOG)
            }
        };
        Ok(Self { reader, working_bytes, out: Vec::new(), room: 0, limit })
    }

    /// Decides on the room for the next step and says how much more must be reserved for it.
    fn make_room(&mut self) -> usize {
        let before = self.room;
        if before - self.out.len() < STEP {
            self.room = before.saturating_mul(2).max(STEP).min(self.limit + 1).max(before);
        }
        self.room - before
    }

    /// Decompresses up to one step into the room. `true` at the end of the input.
    fn step(mut self) -> Stepped {
        let result = self.fill();
        (self, result)
    }

    fn fill(&mut self) -> Result<bool, Unpackable> {
        let start = self.out.len();
        self.out.reserve_exact(self.room - start);
        let end = (start + STEP).min(self.room);
        self.out.resize(end, 0);
        let mut filled = start;
        let mut ended = false;
        while filled < end && !ended {
            match self.reader.read(&mut self.out[filled..]) {
                Ok(n) => (filled, ended) = (filled + n, n == 0),
                Err(interrupted) if interrupted.kind() == io::ErrorKind::Interrupted => {}
                Err(broken) => return Err(Unpackable::Broken(broken.to_string())),
            }
        }
        self.out.truncate(filled);
        if filled > self.limit { Err(Unpackable::TooLarge) } else { Ok(ended) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_web::Budget;
    use std::io::Write;

    const MIB: usize = 1024 * 1024;
    const AT_ONCE: Duration = Duration::ZERO;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstd(plain: &[u8]) -> Bytes {
        zstd::stream::encode_all(plain, 1).unwrap().into()
    }

    /// Bytes that do not compress to nothing.
    fn noise(n: usize) -> Vec<u8> {
        (0..n as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    #[tokio::test]
    async fn what_was_compressed_comes_back_whatever_its_size() {
        for n in [1, 1000, STEP - 1, STEP, STEP + 1, 3 * STEP, 5 * MIB] {
            let plain = noise(n);
            for (coding, encoded) in [(Coding::Gzip, gzip(&plain)), (Coding::Zstd, zstd(&plain)), (Coding::Identity, plain.clone().into())]
            {
                let budget = Budget::new(64 * MIB, "tests");
                let mut reservation = budget.reserve(0, AT_ONCE).await.unwrap();
                let unpacked = unpack(coding, encoded, n, &mut reservation, AT_ONCE).await.unwrap();
                assert!(unpacked == plain, "{coding:?} {n}");
                assert!(reservation.bytes() >= unpacked.capacity() && reservation.bytes() <= unpacked.capacity() + 1024);
            }
        }
    }

    #[tokio::test]
    async fn several_members_are_one_body() {
        let budget = Budget::new(64 * MIB, "tests");
        let mut reservation = budget.reserve(0, AT_ONCE).await.unwrap();
        for (coding, encoded) in [(Coding::Gzip, [gzip(b"a"), gzip(b"b")]), (Coding::Zstd, [zstd(b"a"), zstd(b"b")])] {
            assert_eq!(unpack(coding, encoded.concat().into(), 2, &mut reservation, AT_ONCE).await.unwrap(), b"ab");
        }
    }

    #[tokio::test]
    async fn a_bomb_takes_no_more_memory_than_the_limit() {
        let zeros = vec![0; 50 * MIB];
        for (coding, bomb, working) in [(Coding::Gzip, gzip(&zeros), 64 * 1024), (Coding::Zstd, zstd(&zeros), 8 * MIB)] {
            let budget = Budget::new(working + MIB + 1024, "tests");
            let mut reservation = budget.reserve(0, AT_ONCE).await.unwrap();
            let outcome = unpack(coding, bomb, MIB, &mut reservation, AT_ONCE).await;
            assert!(matches!(outcome, Err(Unpackable::TooLarge)), "{coding:?}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn without_memory_nothing_is_unpacked() {
        let budget = Budget::new(MIB, "tests");
        let mut reservation = budget.reserve(0, AT_ONCE).await.unwrap();
        let outcome = unpack(Coding::Gzip, gzip(&noise(2 * MIB)), 4 * MIB, &mut reservation, AT_ONCE).await;
        assert!(matches!(outcome, Err(Unpackable::Failed(_))), "{outcome:?}");
    }
}
