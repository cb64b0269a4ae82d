SELECT r.series, r.level, r.start, r.summary
FROM unnest($2::integer[], $3::smallint[], $4::bigint[], $5::bigint[]) AS k (day, level, series, start)
CROSS JOIN LATERAL (
    SELECT * FROM rollups r WHERE r.day = k.day AND r.shard = $1 AND r.level = k.level AND r.series = k.series AND r.start = k.start OFFSET 0
) r
