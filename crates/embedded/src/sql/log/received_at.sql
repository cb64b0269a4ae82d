-- The least receive time of the row that holds record ?1, if any does.
SELECT received FROM record_rows WHERE first = (SELECT max(first) FROM record_rows WHERE first <= ?1) AND first + records > ?1
