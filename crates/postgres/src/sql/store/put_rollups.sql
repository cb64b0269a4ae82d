INSERT INTO rollups (day, shard, level, series, start, count, sum, avg, min, max, summary)
SELECT k.day, $1, k.level, k.series, k.start, k.count, k.sum, k.avg, k.min, k.max, k.summary
FROM unnest(
    $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::double precision[], $8::double precision[],
    $9::double precision[], $10::double precision[], $11::bytea[]
) AS k (day, level, series, start, count, sum, avg, min, max, summary)
ON CONFLICT (day, shard, level, series, start) DO UPDATE
SET count = excluded.count, sum = excluded.sum, avg = excluded.avg, min = excluded.min, max = excluded.max, summary = excluded.summary
