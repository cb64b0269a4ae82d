SELECT batch, number, bytes, have = parts FROM dead_letters ORDER BY batch, number
