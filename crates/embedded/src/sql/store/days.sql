SELECT day, slot, part FROM days WHERE day BETWEEN ?1 AND ?2 ORDER BY day, part
