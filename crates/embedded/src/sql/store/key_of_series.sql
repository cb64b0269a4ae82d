SELECT key FROM series WHERE id = ?1
