SELECT id, first, last, readings FROM chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id
