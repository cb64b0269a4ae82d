SELECT batch, number, id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position,
    last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail
FROM dead_letters
WHERE id = ?1 AND have = parts
