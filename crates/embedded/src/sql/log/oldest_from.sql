SELECT min(received)
FROM record_rows INDEXED BY record_rows_received
WHERE first >= coalesce((SELECT first FROM record_rows WHERE first <= ?1 ORDER BY first DESC LIMIT 1), ?1)
