-- Where the chunks are that touch [$3, $4), without their readings.
SELECT c.series, c.first, c.readings
FROM days d
CROSS JOIN unnest($2::bigint[]) AS k (series)
CROSS JOIN LATERAL (
    SELECT series, first, readings FROM chunks c
    WHERE c.day = d.day AND c.shard = $1 AND c.series = k.series AND c.first < $4 AND c.last >= $3
    OFFSET 0
) c
WHERE d.day BETWEEN $5 AND $6
