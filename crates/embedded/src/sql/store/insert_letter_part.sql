INSERT INTO dead_letter_parts (batch, number, part, bytes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING
