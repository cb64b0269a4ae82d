//! Rows of open blocks: written by COPY, and read back.
//!
//! Owns: [`BlockRow`], the mapping of its columns. Does not know: which blocks are written or read.
//! Invariant: a block that is read is what was written, or `Corrupt`: its columns have one length, are sorted, and are of its shard.

use crate::arrays::{Borrowed, Column, Offsets};
use crate::error::{Done, corrupt};
use crate::pool::Session;
use headwater_core::block::OpenBlock;
use headwater_core::series::{SeriesId, Shard};
use headwater_core::store::{BatchId, Blocks};
use headwater_core::time::Timestamp;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

const COPY_BLOCKS: &str = include_str!("../sql/store/copy_blocks.sql");
const TYPES: [Type; 13] = [
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::BOOL,
    Type::INT4_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::FLOAT8_ARRAY,
];

/// A block as its row.
#[derive(Debug)]
pub(super) struct BlockRow {
    batch: i64,
    received_at: i64,
    first: i64,
    last: i64,
    readings: i32,
    n_series: i32,
    shard: i16,
    merged: bool,
    /// Ids below 2^31, which is more than are ever given; others come back all the same.
    series: Column<i32>,
    offsets: Offsets,
    values: Column<f64>,
}

impl BlockRow {
    pub(super) fn of(block: &OpenBlock, batch: i64, received_at: Timestamp, merged: bool) -> Self {
        let stats = block.stats();
        Self {
            batch,
            received_at: received_at.0,
            first: stats.min_time,
            last: stats.max_time,
            // A block holds at most `block::MAX_READINGS`.
            readings: block.len() as i32,
            n_series: stats.series as i32,
            shard: i16::from(block.shard.0),
            merged,
            series: Column(block.series.iter().map(|id| id.0.cast_signed()).collect()),
            offsets: Offsets::of(stats.min_time, stats.max_time, &block.times),
            values: Column(block.values.clone()),
        }
    }
}

pub(super) async fn copy(session: &Session, rows: &[BlockRow]) -> Done<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = session.prepare(COPY_BLOCKS).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(session.client()?.copy_in(&statement).await?, &TYPES));
    for row in rows {
        let BlockRow { batch, received_at, first, last, readings, n_series, shard, merged, series, offsets, values } = row;
        let Offsets { step, narrow, wide } = offsets;
        let values = Borrowed(&values.0);
        writer
            .as_mut()
            .write(&[batch, received_at, first, last, step, readings, n_series, shard, merged, series, narrow, wide, &values])
            .await?;
    }
    writer.finish().await?;
    Ok(())
}

/// `batch, first, step, readings, series, offsets, wide, values`
fn decode(row: &Row, shard: Shard) -> Done<(BatchId, OpenBlock)> {
    let (batch, first, readings): (i64, i64, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
    let (series, values): (Column<i32>, Column<f64>) = (row.try_get(4)?, row.try_get(7)?);
    let times = Offsets { step: row.try_get(2)?, narrow: row.try_get(5)?, wide: row.try_get(6)? }.times(first);
    let series = series.0.into_iter().map(|id| SeriesId(id.cast_unsigned())).collect();
    let block = OpenBlock { shard, series, times, values: values.0 };
    if !is_whole(&block, readings) {
        return Err(corrupt(format!("the open block of batch {batch} and shard {} does not hold what a block holds", shard.0)));
    }
    Ok((BatchId(super::uint(batch)), block))
}

fn is_whole(block: &OpenBlock, readings: i32) -> bool {
    let n = block.times.len();
    n as i64 == i64::from(readings)
        && block.series.len() == n
        && block.values.len() == n
        && (1..n).all(|i| (block.series[i - 1], block.times[i - 1]) <= (block.series[i], block.times[i]))
        && block.series.iter().all(|id| id.shard() == block.shard)
        && block.values.iter().all(|value| value.is_finite())
}

pub(super) fn decode_all(rows: &[Row], shard: Shard) -> Done<Blocks> {
    rows.iter().map(|row| decode(row, shard)).collect()
}
