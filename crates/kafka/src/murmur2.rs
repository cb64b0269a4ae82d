//! Which partition a key goes to: exactly what the default partitioner of Java clients does.
//!
//! Owns: murmur2 as Kafka has it, and [`partition`]. Does not know: what a key is, how many partitions there are.
//! Invariant: the same key and number of partitions give the same partition as a Java producer, so that records of a device
//! lie together whoever sends them.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The partition of a key, of `partitions` (0 counts as 1).
pub(crate) fn partition(key: &[u8], partitions: u32) -> u32 {
    // Java's `toPositive` clears the sign instead of taking the absolute value.
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// `org.apache.kafka.common.utils.Utils.murmur2`, which wraps as Java does.
fn murmur2(data: &[u8]) -> u32 {
    // Java's lengths are 32 bits wide.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own `UtilsTest.testMurmur2`.
    const VECTORS: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];

    #[test]
    fn hashes_are_those_of_java_clients() {
        for (key, hash) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_gives_the_partition_that_java_gives() {
        // -973932308 & 0x7fffffff = 1173551340.
        assert_eq!(partition(b"21", 12), 0);
        assert_eq!(partition(b"21", 7), 1_173_551_340 % 7);
        assert_eq!(partition(b"21", 0), 0, "no partitions are no panic");
    }
}
