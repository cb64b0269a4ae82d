INSERT INTO days (day, part, slot) SELECT ?1, ?2, coalesce(max(slot) + 1, 0) FROM days RETURNING slot
