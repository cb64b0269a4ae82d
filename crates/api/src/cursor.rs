//! Where a page ended, as an opaque text that the next request brings back.
//!
//! Owns: [`Cursor`] and its bytes. Does not know: what is listed.
//! Invariants: a cursor only continues the query that it came from, for a caller with the same device patterns; it holds the
//! range as it was resolved at the first page; bytes that come back are never trusted, and it opens nothing: every page asks
//! with the caller's own rights.
//!
//! Text: base64url without padding of: version (1); identity of the query (16 bytes); hash of the texts of `from` and `to` (8);
//! `from`, `to` and the row's time as zigzag varints, each with a byte before that says whether there is one; the row's key with its
//! length in front; CRC-32 of all before it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_core::codec::{self, Damaged, Reader};
use headwater_core::time::Timestamp;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
/// Longer than any that is made: a key has up to 128 + 128 + 32 · 386 bytes.
const MOST_CHARS: usize = 20_000;

/// What pages of one query share.
pub(crate) type Identity = [u8; 16];
/// What requests with the same texts of `from` and `to` share.
pub(crate) type RangeTexts = [u8; 8];

/// The last row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The query's resolved range.
    pub(crate) from: Option<Timestamp>,
    /// Its end.
    pub(crate) to: Option<Timestamp>,
    /// How the range was written.
    pub(crate) texts: RangeTexts,
    /// The row's key in the order of the list.
    pub(crate) key: String,
    /// The row's time, where the list has several rows to a key.
    pub(crate) time: Option<Timestamp>,
}

impl Cursor {
    /// Its text.
    pub(crate) fn encode(&self, identity: Identity) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&identity);
        bytes.extend_from_slice(&self.texts);
        for time in [self.from, self.to, self.time] {
            bytes.push(u8::from(time.is_some()));
            codec::put_signed(&mut bytes, time.map_or(0, |time| time.0));
        }
        codec::put_bytes(&mut bytes, self.key.as_bytes());
        codec::put_crc(&mut bytes, 0);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text that a client brought.
    ///
    /// # Errors
    /// A sentence for the client when it is damaged or of another query.
    pub(crate) fn decode(text: &str, identity: Identity) -> Result<Self, &'static str> {
        const DAMAGED: &str = "is not a cursor that this server gave: begin again without it";
        if text.len() > MOST_CHARS {
            return Err(DAMAGED);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| DAMAGED)?;
        let (found, cursor) = read(&bytes).map_err(|_| DAMAGED)?;
        if found != identity {
            return Err("belongs to another query: only `limit` and `format` may change between pages");
        }
        Ok(cursor)
    }
}

fn read(bytes: &[u8]) -> Result<(Identity, Cursor), Damaged> {
    let mut reader = Reader::new(codec::check_crc(bytes)?);
    if reader.byte()? != VERSION {
        return Err(Damaged("not a cursor of version 1"));
    }
    let identity = reader.array()?;
    let texts = reader.array()?;
    let mut time = || -> Result<Option<Timestamp>, Damaged> {
        let present = reader.byte()?;
        let micros = reader.signed()?;
        Ok((present == 1).then_some(Timestamp(micros)))
    };
    let (from, to, time) = (time()?, time()?, time()?);
    let key = reader.str()?.to_owned();
    reader.finish()?;
    Ok((identity, Cursor { from, to, texts, key, time }))
}

/// The identity of what was hashed.
pub(crate) fn identity(hash: &[u8]) -> Identity {
    first(hash)
}

/// The hash of the texts of `from` and `to`, empty where not given.
pub(crate) fn range_texts(from: &str, to: &str) -> RangeTexts {
    first(&Sha256::new().chain_update(from).chain_update([0]).chain_update(to).finalize())
}

/// The first bytes of a hash that has at least as many.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    hash.first_chunk::<N>().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Option<Timestamp>> {
        prop::option::of(any::<i64>().prop_map(Timestamp))
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_for_its_own_query_alone(
            from in time(), to in time(), time in time(), texts in any::<[u8; 8]>(), key in ".{0,40}", mine in any::<[u8; 16]>(), other in any::<[u8; 16]>(),
        ) {
            let cursor = Cursor { from, to, texts, key, time };
            let text = cursor.encode(mine);
            prop_assert_eq!(Cursor::decode(&text, mine), Ok(cursor));
            prop_assert_eq!(Cursor::decode(&text, other).is_ok(), mine == other);
        }

        #[test]
        fn a_damaged_cursor_is_refused(key in "[a-z]{0,20}", at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_=-]") {
            let cursor = Cursor { from: None, to: None, texts: [7; 8], key, time: Some(Timestamp(5)) };
            let text = cursor.encode([1; 16]);
            let at = at.index(text.len());
            let damaged = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            prop_assert!(damaged == text || Cursor::decode(&damaged, [1; 16]).is_err());
            prop_assert!(Cursor::decode(&text[..at], [1; 16]).is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            Cursor::decode(&text, [0; 16]).ok();
        }
    }
}
