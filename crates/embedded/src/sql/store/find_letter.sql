SELECT batch, number, parts, have FROM dead_letters WHERE id = ?1
