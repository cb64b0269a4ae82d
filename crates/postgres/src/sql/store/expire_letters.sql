SELECT delete_letters(ARRAY(SELECT id FROM dead_letters WHERE received_at < $1 ORDER BY received_at, id LIMIT $2))
