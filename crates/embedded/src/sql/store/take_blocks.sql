UPDATE shards SET taken = ?2 WHERE shard = ?1
