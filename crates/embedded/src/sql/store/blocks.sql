SELECT batch, readings, bytes
FROM open_blocks INDEXED BY open_blocks_merged
WHERE merged = 1 AND shard = ?1 AND batch > ?2 AND min_time < ?3 AND max_time >= ?4
UNION ALL
SELECT batch, readings, bytes
FROM open_blocks INDEXED BY open_blocks_fresh
WHERE merged = 0 AND batch > max(?2, (SELECT taken FROM shards WHERE shard = ?1)) AND shard = ?1 AND min_time < ?3 AND max_time >= ?4
ORDER BY batch
