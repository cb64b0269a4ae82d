SELECT batch, readings, bytes
FROM open_blocks INDEXED BY open_blocks_merged
WHERE merged = 1 AND shard = ?1
UNION ALL
SELECT batch, readings, bytes
FROM open_blocks INDEXED BY open_blocks_fresh
WHERE merged = 0 AND batch > (SELECT taken FROM shards WHERE shard = ?1) AND shard = ?1
ORDER BY batch
