-- The first reading is in the first day that has a chunk, the last one in the last: days are walked until one is found.
SELECT k.series, f.first, l.last
FROM unnest($2::bigint[]) AS k (series)
CROSS JOIN LATERAL (
    SELECT c.first
    FROM days d
    CROSS JOIN LATERAL (SELECT first FROM chunks c WHERE c.day = d.day AND c.shard = $1 AND c.series = k.series ORDER BY first LIMIT 1) c
    ORDER BY d.day
    LIMIT 1
) f
CROSS JOIN LATERAL (
    SELECT c.last
    FROM days d
    CROSS JOIN LATERAL (SELECT last FROM chunks c WHERE c.day = d.day AND c.shard = $1 AND c.series = k.series ORDER BY first DESC LIMIT 1) c
    ORDER BY d.day DESC
    LIMIT 1
) l
ORDER BY k.series
