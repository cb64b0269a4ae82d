SELECT id, first, last, readings, bytes FROM chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id
