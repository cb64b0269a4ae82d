-- From ?2 on, and the one before it, but none before ?1: it may reach beyond ?2.
SELECT id, first, last, readings, bytes
FROM chunks
WHERE id BETWEEN coalesce((SELECT max(id) FROM chunks WHERE id >= ?1 AND id < ?2), ?2) AND ?3
ORDER BY id
