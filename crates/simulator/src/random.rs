//! Chance that depends on nothing but its names: a hash of the seed and of what is decided.
//!
//! Invariant: the same on every machine; what is decided about one reading never moves what is decided about another.

/// 64 bits that belong to `parts` under `seed` (the finaliser of splitmix64, folded).
pub(crate) fn hash(seed: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(mix(seed), |state, part| mix(state ^ mix(part.wrapping_add(0x9E37_79B9_7F4A_7C15))))
}

/// One of `0..n`, evenly; 0 where `n` is 0.
pub(crate) fn below(hash: u64, n: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(n)) >> 64).unwrap_or_default()
}

/// Whether something of this probability happens.
pub(crate) fn happens(hash: u64, probability: f64) -> bool {
    ((hash >> 11) as f64) < probability * (1u64 << 53) as f64
}

const fn mix(state: u64) -> u64 {
    let bits = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
