UPDATE dead_letters SET state = ?3, attempts = ?4, attempted_at = ?5, outcome = ?6, attempt_detail = ?7 WHERE batch = ?1 AND number = ?2
