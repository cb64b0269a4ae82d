SELECT
    (SELECT coalesce(sum(received), 0) FROM positions),
    (SELECT coalesce(sum(dead), 0) FROM positions),
    (SELECT sum(stored) FROM shards),
    (SELECT sum(duplicate) FROM shards),
    (SELECT sum(conflict) FROM shards),
    -- From the rows themselves, so that a block that is gone shows in the conservation check.
    (SELECT coalesce(sum(readings), 0) FROM open_blocks INDEXED BY open_blocks_merged WHERE merged = 1)
    + (SELECT coalesce(sum(readings), 0)
       FROM open_blocks INDEXED BY open_blocks_fresh CROSS JOIN shards USING (shard)
       WHERE merged = 0 AND batch > taken),
    (SELECT letters FROM state),
    (SELECT letters - letters_settled FROM state),
    (SELECT letters_dropped FROM state),
    (SELECT letters_discarded FROM state),
    (SELECT count(*) FROM gaps)
