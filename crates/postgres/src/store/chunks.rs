//! Rows of chunks: written by COPY as plain arrays, read back as the bytes that the seam speaks of.
//!
//! Owns: [`ChunkRow`], the mapping of its columns. Does not know: which chunks are written or read.
//! Invariants: the bytes of a chunk are a function of its readings (`core::chunk`), so what is read equals what was written; a row that does not hold
//! what its other columns say is `Corrupt`.

use crate::arrays::{Column, Offsets};
use crate::error::{Done, corrupt};
use crate::pool::Session;
use headwater_core::chunk::{self, Chunk};
use headwater_core::seal::{ChunkKey, StoredChunk};
use headwater_core::series::{SeriesId, Shard};
use headwater_core::time::{DAY, Timestamp};
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

const COPY_CHUNKS: &str = include_str!("../sql/store/copy_chunks.sql");
const TYPES: [Type; 10] = [
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::FLOAT8_ARRAY,
];

/// A chunk as its row.
#[derive(Debug)]
pub(super) struct ChunkRow {
    series: i64,
    first: i64,
    last: i64,
    day: i32,
    readings: i32,
    shard: i16,
    offsets: Offsets,
    values: Column<f64>,
}

impl ChunkRow {
    pub(super) fn of(key: ChunkKey, stored: &StoredChunk, shard: Shard) -> Done<Self> {
        let Chunk { times, values } = Chunk::decode(&stored.bytes).map_err(|why| named(key.series.0, key.first, &why))?;
        let (first, last) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
        if (first, last, values.len() as u64) != (key.first, stored.last, stored.readings) || key.series.shard() != shard {
            return Err(named(key.series.0, key.first, &"its bytes hold other readings than its key says"));
        }
        Ok(Self {
            series: i64::from(key.series.0),
            first,
            last,
            day: day_of(first),
            readings: values.len() as i32,
            shard: i16::from(shard.0),
            offsets: Offsets::of(first, last, &times),
            values: Column(values),
        })
    }

    pub(super) const fn day(&self) -> i32 {
        self.day
    }
}

/// The UTC day of a time: 64 bits of microseconds are fewer days than 32 bits.
pub(super) const fn day_of(time: i64) -> i32 {
    time.div_euclid(DAY) as i32
}

fn named(series: impl std::fmt::Display, first: i64, what: &dyn std::fmt::Display) -> crate::error::Fault {
    corrupt(format!("the chunk of series {series} from {}: {what}", Timestamp(first)))
}

/// Writes chunks of which none has a key that is there.
pub(super) async fn copy(session: &Session, rows: &[ChunkRow]) -> Done<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = session.prepare(COPY_CHUNKS).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(session.client()?.copy_in(&statement).await?, &TYPES));
    for row in rows {
        let ChunkRow { series, first, last, day, readings, shard, offsets: Offsets { step, narrow, wide }, values } = row;
        writer.as_mut().write(&[series, first, last, step, day, readings, shard, narrow, wide, values]).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// `series, first, last, readings, step, offsets, wide, values`
pub(super) fn decode(row: &Row) -> Done<(ChunkKey, StoredChunk)> {
    let (series, first, last, readings): (i64, i64, i64, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let values: Column<f64> = row.try_get(7)?;
    let times = Offsets { step: row.try_get(4)?, narrow: row.try_get(5)?, wide: row.try_get(6)? }.times(first);
    let values = values.0;
    let whole = !times.is_empty()
        && times.len() <= chunk::MAX_READINGS
        && times.len() == values.len()
        && times.len() as i64 == i64::from(readings)
        && (times[0], times[times.len() - 1]) == (first, last)
        && times.is_sorted_by(|a, b| a < b)
        && values.iter().all(|value| value.is_finite());
    let id = u32::try_from(series).ok().filter(|_| whole);
    let id = id.ok_or_else(|| named(series, first, &"its arrays do not hold what a chunk holds"))?;
    let mut bytes = Vec::new();
    chunk::encode(&times, &values, &mut bytes);
    Ok((ChunkKey { series: SeriesId(id), first }, StoredChunk { last, readings: values.len() as u64, bytes }))
}

pub(super) fn decode_all(rows: &[Row]) -> Done<Vec<(ChunkKey, StoredChunk)>> {
    rows.iter().map(decode).collect()
}
