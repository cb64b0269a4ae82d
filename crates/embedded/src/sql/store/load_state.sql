SELECT next_batch, next_series, letters, letters_dropped, letter_bytes, letters_settled, letters_discarded FROM state WHERE id = 0
