INSERT INTO gaps (batch, number, log, partition, first, next) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
