DELETE FROM dead_letters WHERE batch = ?1 AND number = ?2
