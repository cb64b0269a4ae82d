INSERT INTO open_blocks (id, batch, shard, readings, series, min_time, max_time, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
