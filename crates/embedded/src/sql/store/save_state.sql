UPDATE state
SET next_batch = ?1, next_series = ?2, letters = ?3, letters_dropped = ?4, letter_bytes = ?5, letters_settled = ?6, letters_discarded = ?7
WHERE id = 0
