UPDATE log SET next = ?1, start = ?2, applied = ?3, bytes = ?4 WHERE id = 0
