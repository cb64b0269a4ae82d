SELECT batch, readings, series, min_time, max_time
FROM open_blocks INDEXED BY open_blocks_of_shard
WHERE shard = ?1 AND min_time < ?2 AND max_time >= ?3
ORDER BY batch
