SELECT batch, readings, series, min_time, max_time
FROM open_blocks INDEXED BY open_blocks_merged
WHERE merged = 1 AND shard = ?1 AND min_time < ?2 AND max_time >= ?3
UNION ALL
SELECT batch, readings, series, min_time, max_time
FROM open_blocks INDEXED BY open_blocks_fresh
WHERE merged = 0 AND batch > (SELECT taken FROM shards WHERE shard = ?1) AND shard = ?1 AND min_time < ?2 AND max_time >= ?3
ORDER BY batch
