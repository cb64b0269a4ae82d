TRUNCATE moves, series, chunks, rollups, days, dead_letters, dead_letter_parts, letter_tally
