DELETE FROM record_rows WHERE first < ?1
