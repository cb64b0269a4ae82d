-- Whoever asks stops at the end of the range: one bound, one seek.
SELECT id, key, unit FROM series WHERE key >= ?1 ORDER BY key
