-- The row that holds record ?1, or the last one before it.
SELECT first, records, bytes_before, bytes FROM record_rows WHERE first <= ?1 ORDER BY first DESC LIMIT 1
