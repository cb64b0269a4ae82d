-- A part that is kept already, or of a letter that is whole, changes nothing but where it is the first: then the letter was sent again. A letter is
-- counted when its last part comes.
WITH sent AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::integer[], $3::bytea[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::bigint[], $13::bigint[]
    ) WITH ORDINALITY
        AS s (id, part, bytes, parts, received_at, count, reason, detail, device, format, log, partition, position, place)
), was AS (
    -- Locked, so that they are what they are until the end.
    SELECT id, state, have = parts AS whole FROM dead_letters WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE
), fresh AS (
    INSERT INTO dead_letter_parts (id, part, bytes)
    SELECT id, part, bytes FROM sent
    WHERE NOT EXISTS (SELECT FROM was WHERE was.id = sent.id AND was.whole)
    ORDER BY id, part, place
    ON CONFLICT DO NOTHING
    RETURNING id, part, octet_length(bytes) AS size
), sums AS (
    SELECT id, count(*)::integer AS have, sum(size) AS size, count(*) FILTER (WHERE part = 0) AS n_first FROM fresh GROUP BY id
), again AS (
    -- How often each was sent again, and when the last of those was received.
    SELECT s.id, count(*) - coalesce(max(sums.n_first), 0) AS n, (array_agg(s.received_at ORDER BY s.place DESC))[1] AS last_seen
    FROM sent s LEFT JOIN sums USING (id)
    WHERE s.part = 0
    GROUP BY s.id
), kept AS (
    INSERT INTO dead_letters AS l (id, received_at, count, bytes, parts, have, reason, detail, device, format, log, partition, position, seen, last_seen)
    SELECT DISTINCT ON (id)
        id, received_at, count * (1 + coalesce(again.n, 0)), coalesce(sums.size, 0), parts, coalesce(sums.have, 0), reason, detail, device, format,
        log, partition, position, 1 + coalesce(again.n, 0), CASE WHEN again.n > 0 THEN again.last_seen END
    FROM sent LEFT JOIN sums USING (id) LEFT JOIN again USING (id)
    WHERE sums.have > 0 OR again.n > 0
    ORDER BY id, part, place
    ON CONFLICT (id) DO UPDATE
        SET have = least(l.parts, l.have + excluded.have),
            bytes = l.bytes + excluded.bytes,
            seen = l.seen + excluded.seen - 1,
            -- Every part carries the count of its letter; each time that it was sent again adds it once more.
            count = l.count + excluded.count / excluded.seen * (excluded.seen - 1),
            last_seen = coalesce(excluded.last_seen, l.last_seen),
            state = CASE WHEN l.state = 'retried' AND excluded.seen > 1 THEN 'open' ELSE l.state END
    RETURNING l.id, l.have = l.parts AS whole, l.state
), reopened AS (
    SELECT count(*) AS n FROM was JOIN kept USING (id) WHERE was.state = 'retried' AND kept.state = 'open'
)
INSERT INTO letter_tally (letters, bytes, dropped, settled)
SELECT
    (SELECT count(*) FROM kept JOIN sums USING (id) WHERE kept.whole), coalesce((SELECT sum(size) FROM sums), 0), 0, -(SELECT n FROM reopened)
FROM (SELECT count(*) AS n FROM kept) k
WHERE k.n > 0
