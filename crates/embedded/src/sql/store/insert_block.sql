-- A row in its place is one that was taken and not swept yet.
INSERT OR REPLACE INTO open_blocks (id, batch, shard, readings, series, min_time, max_time, received_at, merged, bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
