-- With the life of the database beside each: see life.sql.
SELECT stored, hashtextextended(concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), to_regclass('series')::oid), 0)
FROM shards
ORDER BY shard
