SELECT batch, readings, n_series, first, last FROM blocks WHERE shard = $1 AND last >= $2 AND first < $3 ORDER BY batch
