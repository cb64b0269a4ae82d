SELECT coalesce(sum(readings), 0)::bigint FROM blocks
