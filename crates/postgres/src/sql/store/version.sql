SELECT version FROM shards WHERE shard = $1
