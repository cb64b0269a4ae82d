SELECT shard, stored, duplicate, conflict FROM shards ORDER BY shard
