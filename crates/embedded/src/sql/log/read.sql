-- From the row that holds record ?1 on.
SELECT first, records, count, received, crc, blob
FROM record_rows
WHERE first >= coalesce((SELECT first FROM record_rows WHERE first <= ?1 ORDER BY first DESC LIMIT 1), ?1)
ORDER BY first
