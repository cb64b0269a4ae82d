DELETE FROM dead_letter_parts WHERE batch = ?1 AND number = ?2
