-- A part that is kept already changes nothing; a letter is counted when its last part comes.
WITH sent AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::integer[], $3::bytea[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::bigint[], $13::bigint[]
    ) AS s (id, part, bytes, parts, received_at, count, reason, detail, device, format, log, partition, position)
), fresh AS (
    INSERT INTO dead_letter_parts (id, part, bytes) SELECT id, part, bytes FROM sent ORDER BY id, part ON CONFLICT DO NOTHING
    RETURNING id, octet_length(bytes) AS size
), sums AS (
    SELECT id, count(*)::integer AS have, sum(size) AS size FROM fresh GROUP BY id
), kept AS (
    INSERT INTO dead_letters AS l (id, received_at, count, bytes, parts, have, reason, detail, device, format, log, partition, position)
    SELECT DISTINCT ON (id) id, received_at, count, sums.size, parts, sums.have, reason, detail, device, format, log, partition, position
    FROM sent JOIN sums USING (id)
    ORDER BY id, part
    ON CONFLICT (id) DO UPDATE
        SET have = l.have + excluded.have, bytes = l.bytes + excluded.bytes, count = greatest(l.count, excluded.count)
    RETURNING l.have = l.parts AS whole
)
INSERT INTO letter_tally (letters, bytes, dropped)
SELECT (SELECT count(*) FROM kept WHERE whole), sum(size), 0 FROM sums HAVING count(*) > 0
