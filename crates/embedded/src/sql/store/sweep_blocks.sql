DELETE FROM open_blocks
WHERE id IN (
    SELECT batch * 64 + shard
    FROM open_blocks INDEXED BY open_blocks_fresh CROSS JOIN shards USING (shard)
    WHERE merged = 0 AND batch <= taken
)
