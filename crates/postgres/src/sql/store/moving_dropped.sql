INSERT INTO letter_tally (letters, bytes, dropped) VALUES (0, 0, $1)
