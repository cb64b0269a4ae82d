SELECT next FROM positions WHERE log = ?1 AND partition = ?2
