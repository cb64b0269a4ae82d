-- What letters themselves do not say: how many went before, and how many of those that are here are not open.
INSERT INTO letter_tally (letters, bytes, dropped, settled, discarded)
SELECT 0, 0, $1, (SELECT count(*) FROM dead_letters WHERE state <> 'open' AND have = parts), $2
