INSERT INTO series (id, key, device, metric, tags, unit)
SELECT id, key, device, metric, tags::jsonb, unit
FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[]) AS s (id, key, device, metric, tags, unit)
ON CONFLICT (id) DO NOTHING
