INSERT INTO log (id, identity, next, start, applied, bytes) VALUES (0, ?1, 0, 0, 0, 0)
