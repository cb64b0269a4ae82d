SELECT drop_oldest_letters($1, $2)
