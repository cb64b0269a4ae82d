SELECT shard, sum(readings)::bigint, count(*) FILTER (WHERE NOT merged), max(n_series), min(received_at) FROM blocks GROUP BY shard ORDER BY shard
