SELECT
    (SELECT coalesce(sum(readings), 0) FROM open_blocks INDEXED BY open_blocks_merged WHERE merged = 1)
    + (SELECT coalesce(sum(readings), 0)
       FROM open_blocks INDEXED BY open_blocks_fresh CROSS JOIN shards USING (shard)
       WHERE merged = 0 AND batch > taken)
