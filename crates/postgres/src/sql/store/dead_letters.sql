SELECT id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position
FROM dead_letters
WHERE (received_at, id) < ($1, $2) AND received_at < $3 AND received_at >= $4 AND ($5::text IS NULL OR reason = $5) AND have = parts
ORDER BY received_at DESC, id DESC
LIMIT $6
