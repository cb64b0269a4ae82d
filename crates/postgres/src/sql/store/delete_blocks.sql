DELETE FROM blocks WHERE shard = $1 AND batch = ANY ($2) RETURNING received_at
