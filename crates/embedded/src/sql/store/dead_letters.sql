SELECT batch, number, id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position,
    last_seen, seen, state, attempts, attempted_at, outcome, attempt_detail
FROM dead_letters INDEXED BY dead_letters_by_time
WHERE (received_at, id) < (?1, ?2) AND received_at >= ?3 AND (?4 IS NULL OR reason = ?4) AND (?5 IS NULL OR state = ?5) AND have = parts
ORDER BY received_at DESC, id DESC
