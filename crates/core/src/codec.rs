//! The byte-level vocabulary of every encoding: LEB128 varints, zigzag, columns of times and values, a checked cursor.
//!
//! Owns: primitive codings and [`Damaged`]. Does not know: what the bytes are for.
//! Invariants: reading never panics, never reads past the end and never allocates more than the remaining bytes justify.
//!
//! Sources: LEB128 as in DWARF and protobuf (base-128 varints, zigzag for signed numbers).

/// Bytes that are not what they claim to be: cut, changed, or of another format. The text says what was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged bytes: {0}")]
pub struct Damaged(pub &'static str);

/// Appends `n` as an LEB128 varint: 7 bits a byte, least significant first, 1 to 10 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a signed number as a zigzag varint, so that small magnitudes are short on both sides of zero.
pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

/// Appends a byte string with its length in front.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the CRC-32 (IEEE) of `out[from..]`, little-endian.
pub fn put_crc(out: &mut Vec<u8>, from: usize) {
    let crc = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Splits the CRC-32 that [`put_crc`] appended off and compares it.
///
/// # Errors
/// When there are fewer than four bytes, or the CRC is another.
pub fn check_crc(bytes: &[u8]) -> Result<&[u8], Damaged> {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(Damaged("too short for a checksum"));
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(Damaged("checksum does not match"));
    }
    Ok(body)
}

/// Maps signed to unsigned: 0, -1, 1, -2, … become 0, 1, 2, 3, …
pub const fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub const fn unzigzag(n: u64) -> i64 {
    ((n >> 1) as i64) ^ -((n & 1) as i64)
}

/// A cursor over bytes that nobody vouches for.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, without taking it.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes as they are.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Damaged("cut short"))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Damaged("cut short"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    pub fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.array::<1>()?[0])
    }

    /// A varint as [`put_varint`] wrote it; longer spellings of the same number are refused.
    ///
    /// # Errors
    /// When cut, beyond 64 bits, or not the shortest spelling.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Damaged> {
        if let Some((&first, tail)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = tail;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Damaged> {
        let mut n = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(Damaged("a number beyond 64 bits"));
            }
            n |= bits << (7 * i);
            if byte < 0x80 {
                if byte == 0 && i > 0 {
                    return Err(Damaged("a number in a longer spelling than it needs"));
                }
                self.rest = &self.rest[i + 1..];
                return Ok(n);
            }
        }
        Err(Damaged(if self.rest.len() < 10 { "cut short" } else { "a number beyond 64 bits" }))
    }

    /// A zigzag varint as [`put_signed`] wrote it.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn signed(&mut self) -> Result<i64, Damaged> {
        self.varint().map(unzigzag)
    }

    /// A count of things that take at least `bytes_each` bytes: refused when the rest could not hold them, so a vector
    /// may be reserved for it.
    ///
    /// # Errors
    /// As [`Reader::varint`], and when the count is larger than what is left can hold.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, Damaged> {
        let n = self.varint()?;
        let most = self.rest.len() / bytes_each.max(1);
        usize::try_from(n).ok().filter(|&n| n <= most).ok_or(Damaged("a count larger than the bytes that follow"))
    }

    /// A byte string as [`put_bytes`] wrote it.
    ///
    /// # Errors
    /// When cut.
    pub fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let n = self.count(1)?;
        self.take(n)
    }

    /// A byte string that must be UTF-8.
    ///
    /// # Errors
    /// When cut or not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged("text that is not UTF-8"))
    }

    /// Refuses what follows the end of the encoding.
    ///
    /// # Errors
    /// When anything is left.
    pub const fn finish(self) -> Result<(), Damaged> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damaged("more bytes than the encoding has")) }
    }
}

/// Appends times as differences to the one before (the first to 0): one byte or two for steady clocks.
pub fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let mut last = 0i64;
    for &time in times {
        put_signed(out, time.wrapping_sub(last));
        last = time;
    }
}

/// Reads `n` times as [`put_times`] wrote them, onto the end of `times`.
///
/// # Errors
/// When cut.
pub fn read_times(reader: &mut Reader<'_>, n: usize, times: &mut Vec<i64>) -> Result<(), Damaged> {
    if n > reader.remaining() {
        return Err(Damaged("cut short"));
    }
    times.reserve(n);
    let mut last = 0i64;
    for _ in 0..n {
        last = last.wrapping_add(reader.signed()?);
        times.push(last);
    }
    Ok(())
}

/// Powers of ten that a decimal scale may have: up to six places.
const SCALES: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Marks a column of plain little-endian f64; smaller marks are the scale of a decimal column.
const RAW: u8 = 0xff;
/// Scaled integers stay below 2^51, so that every difference fits and every product is exact enough to check.
const SCALED_LIMIT: f64 = 2_251_799_813_685_248.0;

/// Appends a column of finite values by the cheaper of two lossless codings: decimals of one scale (integers in zigzag
/// differences), where every value survives the way there and back bit by bit, else plain little-endian f64.
pub fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let start = out.len();
    if let Some(scale) = common_scale(values) {
        out.push(scale);
        let factor = SCALES[usize::from(scale)];
        let mut last = 0i64;
        for &value in values {
            let scaled = (value * factor).round_ties_even() as i64;
            put_signed(out, scaled - last);
            last = scaled;
        }
        if out.len() - start <= 1 + 8 * values.len() {
            return;
        }
        out.truncate(start);
    }
    out.push(RAW);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Reads `n` values as [`put_values`] wrote them, onto the end of `values`.
///
/// # Errors
/// When cut, or when a value is not finite or is a negative zero (which no column holds).
pub fn read_values(reader: &mut Reader<'_>, n: usize, values: &mut Vec<f64>) -> Result<(), Damaged> {
    if n > reader.remaining() {
        return Err(Damaged("cut short"));
    }
    values.reserve(n);
    match reader.byte()? {
        RAW => {
            let column = reader.take(n.checked_mul(8).ok_or(Damaged("cut short"))?)?;
            for bytes in column.as_chunks::<8>().0 {
                let value = f64::from_le_bytes(*bytes);
                if !value.is_finite() || value.to_bits() == (-0.0f64).to_bits() {
                    return Err(Damaged("a value that no reading has"));
                }
                values.push(value);
            }
        }
        scale => {
            let factor = *SCALES.get(usize::from(scale)).ok_or(Damaged("an unknown coding of values"))?;
            let mut last = 0i64;
            for _ in 0..n {
                last = last.wrapping_add(reader.signed()?);
                values.push(last as f64 / factor);
            }
        }
    }
    Ok(())
}

/// The smallest number of decimal places that every value has, if one up to six does.
fn common_scale(values: &[f64]) -> Option<u8> {
    let mut scale = 0usize;
    for &value in values {
        while !is_decimal(value, SCALES[scale]) {
            scale += 1;
            if scale == SCALES.len() {
                return None;
            }
        }
    }
    // A value that fits a small scale need not fit a larger one (rounding, or the limit): look again at the final one.
    let factor = SCALES[scale];
    values.iter().all(|&value| is_decimal(value, factor)).then_some(scale as u8)
}

/// Whether `value` is an integer divided by `factor`, to the bit (and no negative zero).
#[inline]
fn is_decimal(value: f64, factor: f64) -> bool {
    let scaled = (value * factor).round_ties_even();
    scaled.abs() < SCALED_LIMIT && ((scaled as i64) as f64 / factor).to_bits() == value.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-100_000i64..100_000, 0usize..7).prop_map(|(n, scale)| n as f64 / SCALES[scale]),
            any::<f64>().prop_filter("finite", |v| v.is_finite()),
        ]
        .prop_map(|v| v + 0.0)
    }

    proptest! {
        #[test]
        fn varints_come_back(n in any::<u64>(), s in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            put_signed(&mut out, s);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(n));
            prop_assert_eq!(reader.signed(), Ok(s));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn columns_come_back_bit_by_bit(values in prop::collection::vec(finite(), 0..200), times in prop::collection::vec(any::<i64>(), 0..200)) {
            let mut out = Vec::new();
            put_times(&mut out, &times);
            put_values(&mut out, &values);
            prop_assert!(out.len() <= 10 * times.len() + 8 * values.len() + 1);
            let mut reader = Reader::new(&out);
            let (mut times_back, mut values_back) = (Vec::new(), Vec::new());
            read_times(&mut reader, times.len(), &mut times_back).unwrap();
            if !values.is_empty() {
                read_values(&mut reader, values.len(), &mut values_back).unwrap();
                prop_assert_eq!(reader.finish(), Ok(()));
            }
            prop_assert_eq!(times, times_back);
            let bits = |column: &[f64]| column.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&values), bits(&values_back));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), n in 0usize..1_000_000) {
            let mut reader = Reader::new(&bytes);
            read_times(&mut reader, n, &mut Vec::new()).ok();
            read_values(&mut reader, n, &mut Vec::new()).ok();
            reader.str().ok();
        }
    }

    #[test]
    fn a_longer_spelling_of_a_number_is_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), Err(Damaged("a number in a longer spelling than it needs")));
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(Damaged("a number beyond 64 bits")));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Damaged("cut short")));
    }

    #[test]
    fn two_decimals_take_a_byte_or_two() {
        let values: Vec<f64> = (0..1000).map(|i| (2150 + (i * 7) % 40) as f64 / 100.0).collect();
        let mut out = Vec::new();
        put_values(&mut out, &values);
        assert!(out.len() < 2 * values.len(), "{} bytes for {} values", out.len(), values.len());
    }
}
