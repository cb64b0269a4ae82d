DELETE FROM dead_letters WHERE (batch, number) <= (?1, ?2)
