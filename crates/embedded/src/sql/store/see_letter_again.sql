UPDATE dead_letters SET last_seen = ?3, seen = seen + 1, count = count + ?4, state = ?5 WHERE batch = ?1 AND number = ?2
