UPDATE state SET next_batch = ?1, next_series = ?2, letters = ?3, letters_dropped = ?4, letter_bytes = ?5 WHERE id = 0
