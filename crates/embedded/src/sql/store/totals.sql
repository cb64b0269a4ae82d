SELECT
    (SELECT coalesce(sum(received), 0) FROM positions),
    (SELECT coalesce(sum(dead), 0) FROM positions),
    (SELECT sum(stored) FROM shards),
    (SELECT sum(duplicate) FROM shards),
    (SELECT sum(conflict) FROM shards),
    -- From the rows themselves, so that a block that is gone shows in the conservation check.
    (SELECT coalesce(sum(readings), 0) FROM open_blocks),
    (SELECT letters FROM state),
    (SELECT letters_dropped FROM state),
    (SELECT count(*) FROM gaps)
