SELECT id, bytes FROM dead_letter_parts WHERE id = ANY ($1) ORDER BY id, part
