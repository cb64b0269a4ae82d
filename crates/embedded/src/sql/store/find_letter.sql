SELECT batch, number, parts, have, state FROM dead_letters WHERE id = ?1
