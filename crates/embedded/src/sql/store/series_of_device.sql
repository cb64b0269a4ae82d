SELECT count(*) FROM series WHERE key >= ?1 AND key < ?2
