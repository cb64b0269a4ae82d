INSERT INTO moves (source, identity, state, complete) VALUES ($1, $2, $3, false)
