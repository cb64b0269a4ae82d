SELECT batch, readings, bytes
FROM open_blocks INDEXED BY open_blocks_of_shard
WHERE shard = ?1 AND batch > ?2 AND min_time < ?3 AND max_time >= ?4
ORDER BY batch
