-- Blocks that were open before have no receive time: 0 makes them due at once. Both columns stand after the bytes, so they are
-- read from the indexes only.
ALTER TABLE open_blocks ADD COLUMN received_at INTEGER NOT NULL DEFAULT 0;
-- 1 = made of several blocks, or what a seal did not reach: not merged again.
ALTER TABLE open_blocks ADD COLUMN merged INTEGER NOT NULL DEFAULT 0 CHECK (merged IN (0, 1));

-- What a merge or a seal takes is gone at once, but its rows go later, those of all shards together: a block that is not merged
-- and whose batch is at most `taken` is not there. Rows lie batch by batch, so taking those of one shard writes a page for each.
ALTER TABLE shards ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;

-- The numbers of blocks, without reading their bytes. Blocks that come are listed in the order in which they come: by shard, a
-- commit would write a page for each shard. (With both, a million slow series write 188 bytes a reading, without 950.)
DROP INDEX open_blocks_of_shard;
CREATE INDEX open_blocks_fresh ON open_blocks (batch, shard, readings, series, min_time, max_time, received_at) WHERE merged = 0;
CREATE INDEX open_blocks_merged ON open_blocks (shard, batch, readings, series, min_time, max_time, received_at) WHERE merged = 1;

-- A dead letter that sealing made came from no place in the log: its `log` is empty, its `partition` and `position` are 0.

-- The UTC days (counted from 1970) that have chunks or rollups, each with a short number for their keys. A question about a wide
-- range walks these days only. A day gets a further part where two chunks of a series begin in one place of the day (see below);
-- rollups are in part 0.
CREATE TABLE days (
    day INTEGER NOT NULL,
    part INTEGER NOT NULL,
    slot INTEGER NOT NULL UNIQUE CHECK (slot BETWEEN 0 AND 65535),
    PRIMARY KEY (day, part)
) STRICT, WITHOUT ROWID;

-- The id is the whole key, packed so that rows lie by (day, shard, series, time): one seal writes neighbouring rows, and a day
-- goes by one range.
--     slot << 47 | shard << 41 | (series >> 6) << 15 | place          a place is 2.7 s of the day: there are 32,000
-- A row of a table WITHOUT ROWID would spill to pages of its own above 1,002 bytes, and lie in the upper levels of the tree too;
-- an index beside the rows would add a fifth to the chunks of slow series. What 63 bits cannot tell apart (two chunks of a series
-- that begin in one place, which takes 1,500 readings a second or late data between full chunks) goes under the slot of another
-- part of the day.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    -- When the first reading is: microseconds from the start of the place.
    first INTEGER NOT NULL,
    -- When the last reading is: microseconds from the first.
    last INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

-- Likewise by (level, day, shard, series, hour). Level 0 is hours, 1 days (their hour is 0): the days of a year must not be read
-- from between their hours.
--     level << 53 | slot << 37 | shard << 31 | (series >> 6) << 5 | hour
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
