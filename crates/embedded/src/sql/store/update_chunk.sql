UPDATE chunks SET last = ?3, readings = ?4, bytes = ?5 WHERE id = ?1 AND first = ?2
