INSERT INTO positions (log, partition, next, crc, received, dead) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING
