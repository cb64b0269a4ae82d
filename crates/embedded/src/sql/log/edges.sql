SELECT (SELECT min(first) FROM record_rows),
       (SELECT first + records FROM record_rows ORDER BY first DESC LIMIT 1)
