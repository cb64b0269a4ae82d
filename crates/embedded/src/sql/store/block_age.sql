-- From an index: in the row these stand after the bytes.
SELECT readings, received_at, 1
FROM open_blocks INDEXED BY open_blocks_merged
WHERE merged = 1 AND shard = ?1 AND batch = ?2
UNION ALL
SELECT readings, received_at, 0
FROM open_blocks INDEXED BY open_blocks_fresh
WHERE merged = 0 AND batch = ?2 AND shard = ?1 AND batch > (SELECT taken FROM shards WHERE shard = ?1)
