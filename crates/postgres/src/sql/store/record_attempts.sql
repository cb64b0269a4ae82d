-- What `History::attempted` says, for letters of which none is named twice.
WITH tried AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS t (id, at, outcome, detail)
), was AS (
    SELECT l.id, l.state FROM dead_letters l JOIN tried USING (id) WHERE l.have = l.parts ORDER BY l.id FOR UPDATE OF l
), marked AS (
    UPDATE dead_letters l
    SET attempts = l.attempts + 1, attempted_at = t.at, outcome = t.outcome, attempt_detail = t.detail,
        state = CASE
            WHEN l.state = 'open' AND t.outcome = 'accepted' AND t.at <> coalesce(l.last_seen, l.received_at) THEN 'retried' ELSE l.state
        END
    FROM tried t, was
    WHERE l.id = t.id AND l.id = was.id
    RETURNING l.id, l.received_at, l.last_seen, l.seen, l.state, l.attempts, l.attempted_at, l.outcome, l.attempt_detail, was.state AS before
), told AS (
    INSERT INTO letter_tally (letters, bytes, dropped, settled)
    SELECT 0, 0, 0, count(*) FROM marked WHERE before = 'open' AND state <> 'open' HAVING count(*) > 0
)
SELECT id, received_at, last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail FROM marked
