-- What became of letters that were put, whatever putting them again has made of it.
UPDATE dead_letters l
SET count = m.count, last_seen = m.last_seen, seen = m.seen, state = m.state, attempts = m.attempts, attempted_at = m.attempted_at,
    outcome = m.outcome, attempt_detail = m.attempt_detail
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[])
    AS m (id, count, last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail)
WHERE l.id = m.id
