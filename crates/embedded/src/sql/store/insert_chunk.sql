INSERT INTO chunks (id, first, last, readings, bytes) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING
