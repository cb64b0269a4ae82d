-- As the chunks themselves.
SELECT id, first, last, readings
FROM chunks
WHERE id BETWEEN coalesce((SELECT max(id) FROM chunks WHERE id >= ?1 AND id < ?2), ?2) AND ?3
ORDER BY id
