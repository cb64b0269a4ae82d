SELECT k.place, s.id, s.unit
FROM unnest($1::bytea[]) WITH ORDINALITY AS k (key, place)
CROSS JOIN LATERAL (SELECT id, unit FROM series WHERE key = k.key OFFSET 0) s
