INSERT INTO series (id, key, unit) VALUES (?1, ?2, ?3)
