-- Rows that are not there any more, to be swept.
SELECT count(*), coalesce(sum(readings), 0)
FROM open_blocks INDEXED BY open_blocks_fresh CROSS JOIN shards USING (shard)
WHERE merged = 0 AND batch <= taken
