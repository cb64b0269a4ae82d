SELECT id, unit FROM series WHERE key = ?1
