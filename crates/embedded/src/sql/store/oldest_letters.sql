SELECT batch, number, bytes, have = parts, state FROM dead_letters ORDER BY batch, number
