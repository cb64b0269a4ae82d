SELECT count(*), coalesce(sum(c.readings), 0)::bigint
FROM days d
CROSS JOIN unnest($2::bigint[]) AS k (series)
CROSS JOIN LATERAL (
    SELECT readings FROM chunks c WHERE c.day = d.day AND c.shard = $1 AND c.series = k.series AND c.first < $4 AND c.last >= $3 OFFSET 0
) c
WHERE d.day BETWEEN $5 AND $6
