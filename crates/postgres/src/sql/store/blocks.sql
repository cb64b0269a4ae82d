-- Those after $2 that touch [$3, $4), as many as hold at most $5 readings together, at least one.
SELECT batch, first, step, readings, series, offsets, wide, "values"
FROM (
    SELECT *, sum(readings) OVER (ORDER BY batch) AS together, row_number() OVER (ORDER BY batch) AS place
    FROM blocks
    WHERE shard = $1 AND batch > $2 AND last >= $3 AND first < $4
) b
WHERE together <= $5 OR place = 1
ORDER BY batch
