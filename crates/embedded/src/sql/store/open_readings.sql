SELECT coalesce(sum(readings), 0) FROM open_blocks
