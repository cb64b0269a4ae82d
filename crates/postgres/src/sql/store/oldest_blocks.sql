-- As many as hold at most $2 readings together, at least one.
SELECT batch, first, step, readings, series, offsets, wide, "values"
FROM (
    SELECT *, sum(readings) OVER (ORDER BY batch) AS together, row_number() OVER (ORDER BY batch) AS place FROM blocks WHERE shard = $1
) b
WHERE together <= $2 OR place = 1
ORDER BY batch
