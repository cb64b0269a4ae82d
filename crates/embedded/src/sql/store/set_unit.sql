UPDATE series SET unit = ?2 WHERE id = ?1
