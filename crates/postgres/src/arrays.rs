//! Columns of readings as PostgreSQL's arrays, in the binary form of the wire, and times as offsets.
//!
//! Owns: [`Column`] (an array of int4, int8 or float8, written from and read into plain vectors without anything for each element) and
//! [`Offsets`]. Does not know: tables.
//! Invariants: what is read back is what was written, bit by bit; arrays have one dimension and no NULLs, anything else is refused.
//!
//! The form of an array (`array_send` in PostgreSQL's sources): dimensions, has NULLs, type, then for each dimension length and lower bound, then
//! for each element its length in bytes and its bytes; all big-endian.

use bytes::{BufMut, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type Failed = Box<dyn Error + Sync + Send>;

/// A type of element: its name on the wire and its bytes.
pub(crate) trait Element: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// Of one element.
    const TYPE: Type;
    /// Of an array of them.
    const ARRAY: Type;
    /// Bytes of an element.
    const SIZE: usize;
    fn put(self, out: &mut [u8]);
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($rust:ty, $one:ident, $array:ident) => {
        impl Element for $rust {
            const TYPE: Type = Type::$one;
            const ARRAY: Type = Type::$array;
            const SIZE: usize = size_of::<$rust>();

            #[inline]
            fn put(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn take(bytes: &[u8]) -> Self {
                bytes.try_into().map(<$rust>::from_be_bytes).unwrap_or_default()
            }
        }
    };
}

element!(i32, INT4, INT4_ARRAY);
element!(i64, INT8, INT8_ARRAY);
element!(f64, FLOAT8, FLOAT8_ARRAY);

/// An array without NULLs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Column<T>(pub(crate) Vec<T>);

impl<T: Element> ToSql for Column<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        Borrowed(&self.0).to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == T::ARRAY
    }

    to_sql_checked!();
}

/// An array to write, where it lies.
#[derive(Debug)]
pub(crate) struct Borrowed<'a, T>(pub(crate) &'a [T]);

impl<T: Element> ToSql for Borrowed<'_, T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        let values = self.0;
        out.put_i32(i32::from(!values.is_empty()));
        out.put_i32(0);
        out.put_u32(T::TYPE.oid());
        if values.is_empty() {
            return Ok(IsNull::No);
        }
        out.put_i32(i32::try_from(values.len())?);
        out.put_i32(1);
        let (stride, start) = (4 + T::SIZE, out.len());
        out.resize(start + values.len() * stride, 0);
        let size = (T::SIZE as u32).to_be_bytes();
        for (place, value) in out[start..].chunks_exact_mut(stride).zip(values) {
            place[..4].copy_from_slice(&size);
            value.put(&mut place[4..]);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == T::ARRAY
    }

    to_sql_checked!();
}

impl<'a, T: Element> FromSql<'a> for Column<T> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let number = |at: usize| raw.get(at..at + 4).map(i32::take).ok_or("an array that is cut short");
        let (dimensions, nulls, element) = (number(0)?, number(4)?, number(8)?);
        if nulls != 0 || element as u32 != T::TYPE.oid() {
            return Err("an array of another type, or with NULLs".into());
        }
        if dimensions == 0 {
            return Ok(Self(Vec::new()));
        }
        let n = usize::try_from(number(12)?)?;
        let body = raw.get(20..).unwrap_or_default();
        let stride = 4 + T::SIZE;
        if dimensions != 1 || n.checked_mul(stride) != Some(body.len()) {
            return Err("an array of another shape".into());
        }
        if body.chunks_exact(stride).any(|element| element[..4] != (T::SIZE as u32).to_be_bytes()) {
            return Err("an array with an element of another size".into());
        }
        Ok(Self(body.chunks_exact(stride).map(|element| T::take(&element[4..])).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == T::ARRAY
    }
}

/// Times as whole steps from the row's first one.
///
/// In four bytes each where they fit, which is nearly always: in microseconds up to 35 minutes, in the clock's own step beyond (24 days for
/// milliseconds). What does not fit takes eight. Measured on 1,080 readings every 10 s with values of two decimals (PostgreSQL 15, lz4): four
/// bytes make 10.4 bytes a reading of table, index and TOAST in all; eight bytes, which lz4 hardly shortens, 13.0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offsets {
    /// Microseconds of a step.
    pub(crate) step: i64,
    /// Steps, where they fit four bytes.
    pub(crate) narrow: Option<Column<i32>>,
    /// Microseconds, where they do not; then the step is 1.
    pub(crate) wide: Option<Column<i64>>,
}

impl Offsets {
    /// Of times that are not before `first` and not after `last`.
    pub(crate) fn of(first: i64, last: i64, times: &[i64]) -> Self {
        if let Some(span) = last.checked_sub(first) {
            let step = if i32::try_from(span).is_ok() { 1 } else { common_step(first, times) };
            if i32::try_from(span / step).is_ok() {
                let narrow = times.iter().map(|time| ((time - first) / step) as i32).collect();
                return Self { step, narrow: Some(Column(narrow)), wide: None };
            }
        }
        let wide = times.iter().map(|time| time.wrapping_sub(first)).collect();
        Self { step: 1, narrow: None, wide: Some(Column(wide)) }
    }

    /// The times again.
    pub(crate) fn times(self, first: i64) -> Vec<i64> {
        match (self.narrow, self.wide) {
            (Some(narrow), _) => narrow.0.into_iter().map(|offset| first.wrapping_add(i64::from(offset).wrapping_mul(self.step))).collect(),
            (None, wide) => wide.unwrap_or_default().0.into_iter().map(|offset| first.wrapping_add(offset)).collect(),
        }
    }
}

/// The greatest common divisor of all offsets, at least 1.
fn common_step(first: i64, times: &[i64]) -> i64 {
    let mut step = 0;
    for time in times {
        let mut offset = time - first;
        // Most offsets are multiples of what was found so far.
        while step != 0 && offset % step != 0 {
            (offset, step) = (step, offset % step);
        }
        if step == 0 {
            step = offset;
        }
        if step == 1 {
            break;
        }
    }
    step.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back<T: Element + PartialEq>(values: &[T]) -> Vec<T> {
        let mut out = BytesMut::new();
        Borrowed(values).to_sql(&T::ARRAY, &mut out).unwrap();
        Column::<T>::from_sql(&T::ARRAY, &out).unwrap().0
    }

    proptest! {
        #[test]
        fn arrays_come_back_bit_by_bit(ints in prop::collection::vec(any::<i32>(), 0..50), bigs in prop::collection::vec(any::<i64>(), 0..50), floats in prop::collection::vec(any::<u64>(), 0..50)) {
            prop_assert_eq!(back(&ints), ints);
            prop_assert_eq!(back(&bigs), bigs);
            let floats: Vec<f64> = floats.into_iter().map(f64::from_bits).collect();
            prop_assert_eq!(back(&floats).iter().map(|v| v.to_bits()).collect::<Vec<_>>(), floats.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_an_array_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), n in 0i32..9) {
            Column::<i32>::from_sql(&Type::INT4_ARRAY, &bytes).ok();
            let mut whole = BytesMut::new();
            whole.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23]);
            whole.put_i32(n);
            whole.put_i32(1);
            whole.extend_from_slice(&bytes);
            if let Ok(column) = Column::<i32>::from_sql(&Type::INT4_ARRAY, &whole) {
                prop_assert_eq!(column.0.len(), n as usize);
            }
        }

        #[test]
        fn times_come_back_from_their_offsets(
            mut times in prop_oneof![
                prop::collection::vec(any::<i64>(), 1..40),
                (any::<i32>(), 1i64..100_000_000, prop::collection::vec(0i64..4_000_000_000, 1..40))
                    .prop_map(|(first, step, offsets)| offsets.into_iter().map(|offset| i64::from(first) + offset.wrapping_mul(step)).collect()),
            ],
        ) {
            times.sort_unstable();
            let (first, last) = (times[0], times[times.len() - 1]);
            let offsets = Offsets::of(first, last, &times);
            prop_assert!(offsets.narrow.is_some() != offsets.wide.is_some());
            prop_assert_eq!(offsets.times(first), times);
        }
    }

    #[test]
    fn a_day_of_milliseconds_takes_four_bytes() {
        let times: Vec<i64> = (0..100).map(|n| 1_763_910_000_000_000 + n * 863_999_000 / 100 * 1_000).collect();
        let offsets = Offsets::of(times[0], times[99], &times);
        assert!(offsets.narrow.is_some() && offsets.step % 1_000 == 0);
        let jitter: Vec<i64> = times.iter().enumerate().map(|(n, time)| time * 10 + n as i64 % 7).collect();
        assert!(Offsets::of(jitter[0], jitter[99], &jitter).wide.is_some());
    }
}
