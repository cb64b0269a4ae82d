SELECT next_batch, next_series, letters, letters_dropped, letter_bytes FROM state WHERE id = 0
