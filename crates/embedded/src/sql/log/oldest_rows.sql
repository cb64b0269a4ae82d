SELECT first, records, committed, bytes FROM record_rows ORDER BY first
