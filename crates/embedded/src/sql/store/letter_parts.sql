SELECT bytes FROM dead_letter_parts WHERE batch = ?1 AND number = ?2 ORDER BY part
