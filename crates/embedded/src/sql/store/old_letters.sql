SELECT batch, number, bytes, have = parts, state
FROM dead_letters INDEXED BY dead_letters_by_time
WHERE received_at < ?1
ORDER BY received_at, id
LIMIT ?2
