INSERT INTO dead_letters
    (batch, number, id, received_at, reason, detail, device, format, count, parts, have, bytes, log, partition, position)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11, ?12, ?13, ?14)
