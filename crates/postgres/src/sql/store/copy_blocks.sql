COPY blocks (batch, received_at, first, last, step, readings, n_series, shard, merged, series, offsets, wide, "values") FROM STDIN (FORMAT binary)
