SELECT r.series, r.level, r.start, r.summary
FROM days d
CROSS JOIN unnest($3::bigint[]) AS k (series)
CROSS JOIN LATERAL (
    SELECT * FROM rollups r
    WHERE r.day = d.day AND r.shard = $1 AND r.level = $2 AND r.series = k.series AND r.start >= $4 AND r.start < $5
    OFFSET 0
) r
WHERE d.day BETWEEN $6 AND $7
