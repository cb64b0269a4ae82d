SELECT 1 FROM dead_letter_parts WHERE batch = ?1 AND number = ?2 AND part = ?3
