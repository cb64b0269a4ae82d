UPDATE shards s SET version = s.version + 1, stored = m.stored, duplicate = m.duplicate, conflict = m.conflict
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS m (shard, stored, duplicate, conflict)
WHERE s.shard = m.shard
