DELETE FROM dead_letter_parts WHERE (batch, number) <= (?1, ?2)
