-- What must outlive the rows: a log that was trimmed to empty keeps its identity and its numbering.
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    identity TEXT NOT NULL,
    -- The number of the next record.
    next INTEGER NOT NULL,
    -- The first record that can be read.
    start INTEGER NOT NULL,
    -- Everything before is durably applied.
    applied INTEGER NOT NULL,
    -- Bytes of all rows that were ever appended.
    bytes INTEGER NOT NULL,
    CHECK (start <= applied AND applied <= next)
) STRICT;

-- Many records to a row: all that waited while the row before was being written.
CREATE TABLE record_rows (
    first INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    -- Readings that the records count as.
    count INTEGER NOT NULL,
    -- The least receive time among the records.
    received INTEGER NOT NULL,
    -- When the row was written.
    committed INTEGER NOT NULL,
    -- Bytes of all rows before this one, so that the size of any stretch is the difference of two rows.
    bytes_before INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- CRC-32 of the columns above that a reader acts on and of the blob.
    crc INTEGER NOT NULL,
    blob BLOB NOT NULL
) STRICT;

-- The least receive time from a record on, without reading blobs.
CREATE INDEX record_rows_received ON record_rows (first, received);
