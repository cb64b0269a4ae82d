DELETE FROM chunks
WHERE ctid = ANY (ARRAY(
    SELECT c.ctid
    FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS k (day, series, first)
    CROSS JOIN LATERAL (SELECT ctid FROM chunks c WHERE c.day = k.day AND c.shard = $1 AND c.series = k.series AND c.first = k.first OFFSET 0) c
))
