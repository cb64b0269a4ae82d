COPY chunks (series, first, last, step, day, readings, shard, offsets, wide, "values") FROM STDIN (FORMAT binary)
