SELECT id, bytes FROM rollups WHERE id BETWEEN ?1 AND ?2 ORDER BY id
