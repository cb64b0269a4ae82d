SELECT shard, sum(readings), sum(NOT merged), max(series), min(received_at)
FROM (
    SELECT shard, readings, series, received_at, merged FROM open_blocks INDEXED BY open_blocks_merged WHERE merged = 1
    UNION ALL
    SELECT shard, readings, series, received_at, merged
    FROM open_blocks INDEXED BY open_blocks_fresh CROSS JOIN shards USING (shard)
    WHERE merged = 0 AND batch > taken
)
GROUP BY shard
ORDER BY shard
