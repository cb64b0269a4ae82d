SELECT
    (SELECT coalesce(sum(received), 0)::bigint FROM positions),
    (SELECT coalesce(sum(dead), 0)::bigint FROM positions),
    (SELECT sum(stored)::bigint FROM shards),
    (SELECT sum(duplicate)::bigint FROM shards),
    (SELECT sum(conflict)::bigint FROM shards),
    -- From the rows themselves, so that a block that is gone shows in the conservation check.
    (SELECT coalesce(sum(readings), 0)::bigint FROM blocks),
    (SELECT coalesce(sum(letters), 0)::bigint FROM letter_tally),
    (SELECT coalesce(sum(letters - settled), 0)::bigint FROM letter_tally),
    (SELECT coalesce(sum(dropped), 0)::bigint FROM letter_tally),
    (SELECT coalesce(sum(discarded), 0)::bigint FROM letter_tally),
    (SELECT count(*) FROM gaps)
