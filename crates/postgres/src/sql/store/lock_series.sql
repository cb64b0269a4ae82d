SELECT next FROM counters WHERE name = 'series' FOR UPDATE
