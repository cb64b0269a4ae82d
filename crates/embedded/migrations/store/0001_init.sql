-- Numbers that rise and are never used again, and what is known of the dead letters that are kept.
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    next_batch INTEGER NOT NULL,
    next_series INTEGER NOT NULL,
    letters INTEGER NOT NULL,
    letters_dropped INTEGER NOT NULL,
    letter_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (0, 1, 0, 0, 0, 0);

-- The key is a blob because it holds NUL, which SQL's functions over text do not see past; blobs compare by their bytes.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    unit TEXT
) STRICT;

-- `received` and `dead` are moved by the compare-and-set of `next` itself.
CREATE TABLE positions (
    log TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next INTEGER NOT NULL,
    crc INTEGER,
    received INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    PRIMARY KEY (log, partition)
) STRICT, WITHOUT ROWID;

-- What sealing has settled, shard by shard, beside the version that it moves.
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    conflict INTEGER NOT NULL
) STRICT;
WITH RECURSIVE n (shard) AS (VALUES (0) UNION ALL SELECT shard + 1 FROM n WHERE shard < 63)
INSERT INTO shards SELECT shard, 0, 0, 0, 0 FROM n;

-- One row for what one batch brought for one shard. The id orders rows as they come, so that they are written side by side.
CREATE TABLE open_blocks (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    series INTEGER NOT NULL,
    min_time INTEGER NOT NULL,
    max_time INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    CHECK (id = batch * 64 + shard AND shard BETWEEN 0 AND 63)
) STRICT;
-- The numbers of a shard's blocks, without reading their bytes.
CREATE INDEX open_blocks_of_shard ON open_blocks (shard, batch, readings, series, min_time, max_time);

-- A letter is whole when `have` = `parts`; before that nobody sees it.
CREATE TABLE dead_letters (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    id BLOB NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    device TEXT,
    format TEXT NOT NULL,
    count INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    have INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    log TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (batch, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letters_by_time ON dead_letters (received_at, id);

CREATE TABLE dead_letter_parts (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    part INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (batch, number, part)
) STRICT, WITHOUT ROWID;

-- Records first..next that the log no longer had.
CREATE TABLE gaps (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    log TEXT NOT NULL,
    partition INTEGER NOT NULL,
    first INTEGER NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (batch, number)
) STRICT, WITHOUT ROWID;
