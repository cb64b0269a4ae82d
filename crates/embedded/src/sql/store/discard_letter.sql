UPDATE dead_letters SET state = 'discarded', bytes = 0 WHERE batch = ?1 AND number = ?2
