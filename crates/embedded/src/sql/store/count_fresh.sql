-- Those that are not merged, up to a batch.
SELECT count(*)
FROM open_blocks INDEXED BY open_blocks_fresh
WHERE merged = 0 AND batch > (SELECT taken FROM shards WHERE shard = ?1) AND batch <= ?2 AND shard = ?1
