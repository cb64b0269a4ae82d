SELECT id, received_at, reason, detail, device, format, count, parts, bytes, log, partition, position
FROM dead_letters
WHERE id = $1 AND have = parts
