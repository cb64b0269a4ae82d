SELECT stored FROM shards ORDER BY shard
