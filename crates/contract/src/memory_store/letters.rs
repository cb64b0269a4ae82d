//! The dead letters of a [`MemoryStore`], and what becomes of them.
//!
//! Owns: [`Letter`], the parts and the history of one. Does not know: queries.

use super::{MemoryStore, State};
use headwater_core::BoxFuture;
use headwater_core::dead_letter::{Attempt, DeadLetter, History, KeptLetter, LetterState};
use headwater_core::store::{DeadLetters, Result};
use headwater_core::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A dead letter as far as its parts have come.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) head: DeadLetter,
    pub(super) history: History,
    parts: BTreeMap<u32, Arc<[u8]>>,
}

impl Letter {
    pub(super) fn is_whole(&self) -> bool {
        self.parts.len() as u64 == u64::from(self.head.parts)
    }

    pub(super) fn is_open(&self) -> bool {
        self.history.state == LetterState::Open
    }

    pub(super) fn assembled(&self) -> KeptLetter {
        let bytes = self.parts.values().flat_map(|part| part.iter().copied()).collect();
        KeptLetter { letter: DeadLetter { bytes, ..self.head.clone() }, history: self.history.clone() }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.values().map(|part| part.len()).sum()
    }
}

impl State {
    pub(super) fn whole_letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.values().filter(|letter| letter.is_whole())
    }

    pub(super) fn keep(&mut self, mut letter: DeadLetter) {
        let bytes: Arc<[u8]> = std::mem::take(&mut letter.bytes).into();
        let (part, count, received_at) = (letter.part, letter.count, letter.received_at);
        let kept = self.letters.entry(letter.id).or_insert_with(|| Letter {
            history: History::new(received_at),
            head: DeadLetter { part: 0, ..letter },
            parts: BTreeMap::new(),
        });
        if part == 0 && kept.parts.contains_key(&0) {
            kept.head.count += count;
            kept.history.seen_again(received_at);
        }
        kept.parts.entry(part).or_insert(bytes);
    }

    fn letter_mut(&mut self, id: Uuid) -> Option<&mut Letter> {
        self.letters.get_mut(&id).filter(|letter| letter.is_whole())
    }

    fn discard(&mut self, id: Uuid) -> bool {
        let Some(letter) = self.letter_mut(id) else { return false };
        let is_new = letter.history.state != LetterState::Discarded;
        letter.history.state = LetterState::Discarded;
        letter.parts.values_mut().for_each(|part| *part = Arc::default());
        self.letters_discarded += u64::from(is_new);
        true
    }

    fn expire(&mut self, before: Timestamp, most: u64) -> u64 {
        let mut old: Vec<_> = self.letters.values().filter(|letter| letter.head.received_at < before).collect();
        old.sort_by_key(|letter| (letter.head.received_at, letter.head.id));
        let gone: Vec<_> = old.iter().take(usize::try_from(most).unwrap_or(usize::MAX)).map(|letter| letter.head.id).collect();
        for id in &gone {
            let letter = self.letters.remove(id);
            self.letters_dropped += u64::from(letter.is_some_and(|letter| letter.history.state != LetterState::Discarded));
        }
        gone.len() as u64
    }
}

impl DeadLetters for MemoryStore {
    fn attempted(&self, attempts: Vec<(Uuid, Attempt)>) -> BoxFuture<'_, Result<Vec<Option<History>>>> {
        Box::pin(async move {
            Ok(self.change(|state| {
                let record = |(id, attempt): (Uuid, Attempt)| {
                    let letter = state.letter_mut(id)?;
                    letter.history.attempted(attempt);
                    Some(letter.history.clone())
                };
                attempts.into_iter().map(record).collect()
            }))
        })
    }

    fn discard(&self, id: Uuid) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.change(|state| state.discard(id))) })
    }

    fn expire(&self, before: Timestamp, most: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { Ok(self.change(|state| state.expire(before, most))) })
    }
}
