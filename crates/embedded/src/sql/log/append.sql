INSERT INTO record_rows (first, records, count, received, committed, bytes_before, bytes, crc, blob)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
