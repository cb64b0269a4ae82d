UPDATE counters SET next = $1 WHERE name = 'series'
