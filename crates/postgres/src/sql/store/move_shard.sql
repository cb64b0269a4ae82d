UPDATE shards SET version = version + 1, stored = stored + $3, duplicate = duplicate + $4, conflict = conflict + $5
WHERE shard = $1 AND version = $2
