SELECT id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position,
    last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail
FROM dead_letters
WHERE (received_at, id) < ($1, $2) AND received_at < $3 AND received_at >= $4 AND ($5::text IS NULL OR reason = $5)
    AND ($6::text IS NULL OR state = $6) AND have = parts
ORDER BY received_at DESC, id DESC
LIMIT $7
