DELETE FROM chunks WHERE id = ?1 AND first = ?2
