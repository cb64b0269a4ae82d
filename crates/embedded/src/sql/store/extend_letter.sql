UPDATE dead_letters SET have = have + 1, bytes = bytes + ?3, count = max(count, ?4) WHERE batch = ?1 AND number = ?2
