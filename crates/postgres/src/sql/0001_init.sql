-- Numbers that rise and are never used again: `batch` in the order of commits, `series` without holes. Each row is locked from its use to the end of the
-- transaction, which makes that order the order in which things become visible.
CREATE TABLE counters (
    name text COLLATE "C" PRIMARY KEY,
    next bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO counters VALUES ('batch', 1), ('series', 0);

-- The key is bytea because it holds NUL, which text cannot; it compares by its bytes. The other columns are for people.
CREATE TABLE series (
    id bigint PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    device text COLLATE "C" NOT NULL,
    metric text COLLATE "C" NOT NULL,
    tags jsonb NOT NULL,
    unit text
);
CREATE INDEX series_by_name ON series (device, metric);

-- `received` and `dead` are moved by the compare-and-set of `next` itself.
CREATE TABLE positions (
    log text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    next bigint NOT NULL,
    crc bigint,
    received bigint NOT NULL,
    dead bigint NOT NULL,
    PRIMARY KEY (log, partition)
) WITH (fillfactor = 20);

-- What sealing has settled, shard by shard, beside the version that it moves.
CREATE TABLE shards (
    shard smallint PRIMARY KEY,
    version bigint NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    conflict bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO shards SELECT n, 0, 0, 0, 0 FROM generate_series(0, 63) AS n;

-- One row for what one batch brought for one shard, sorted by (series, time, arrival). The time of a reading is
-- first + step * offset, or first + wide where the offsets do not fit four bytes; one of both is NULL.
-- Every row is written, given its number, and deleted within minutes: dead rows are swept at once, not after a fifth of the table.
CREATE TABLE blocks (
    batch bigint NOT NULL,
    received_at bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    step bigint NOT NULL,
    readings integer NOT NULL,
    n_series integer NOT NULL,
    shard smallint NOT NULL,
    merged boolean NOT NULL,
    series integer[] NOT NULL,
    offsets integer[],
    wide bigint[],
    "values" double precision[] NOT NULL,
    PRIMARY KEY (shard, batch)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 4096, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 65536,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 16384, toast.autovacuum_vacuum_cost_delay = 0
);

-- The UTC days (counted from 1970) that have chunks or rollups. A question about a wide range walks these only.
CREATE TABLE days (day integer PRIMARY KEY);

-- Sealed readings of one series, at most 4,096, within one UTC day, by time and without repeats; times as in `blocks`. By day and shard first: one
-- seal writes neighbouring rows, and a day goes by one range.
CREATE TABLE chunks (
    series bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    step bigint NOT NULL,
    day integer NOT NULL,
    readings integer NOT NULL,
    shard smallint NOT NULL,
    offsets integer[],
    wide bigint[],
    "values" double precision[] NOT NULL,
    PRIMARY KEY (day, shard, series, first)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 10000
);

-- The summary of a series and window; level 0 is hours, 1 days. There is one exactly where the window holds more than 64 sealed readings. The numbers
-- beside the bytes are the same ones, for people; sum and avg are NULL beyond the range of their type.
CREATE TABLE rollups (
    series bigint NOT NULL,
    start bigint NOT NULL,
    count bigint NOT NULL,
    sum double precision,
    avg double precision,
    min double precision NOT NULL,
    max double precision NOT NULL,
    day integer NOT NULL,
    shard smallint NOT NULL,
    level smallint NOT NULL,
    summary bytea NOT NULL,
    PRIMARY KEY (day, shard, level, series, start)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000);

-- A letter is whole when `have` = `parts`; before that nobody sees it. Texts that come from outside may hold NUL: in them a backslash stands as two,
-- and NUL as backslash and 0. A letter that sealing made came from no log.
CREATE TABLE dead_letters (
    id uuid PRIMARY KEY,
    received_at bigint NOT NULL,
    count bigint NOT NULL,
    bytes bigint NOT NULL,
    parts integer NOT NULL,
    have integer NOT NULL,
    reason text COLLATE "C" NOT NULL,
    detail text NOT NULL,
    device text COLLATE "C",
    format text NOT NULL,
    log text COLLATE "C",
    partition bigint,
    position bigint
);
CREATE INDEX dead_letters_by_time ON dead_letters (received_at, id);

CREATE TABLE dead_letter_parts (
    id uuid NOT NULL,
    part integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (id, part)
);

-- How many letters came, with how many bytes, and how many had to go: the sum over all rows. Every batch with letters adds a row, so that no row is
-- shared by writers; keeping the quota puts them together.
CREATE TABLE letter_tally (
    letters bigint NOT NULL,
    bytes bigint NOT NULL,
    dropped bigint NOT NULL
);

-- Records first..next that the log no longer had.
CREATE TABLE gaps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    first bigint NOT NULL,
    next bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now()
);

-- Arrays compress with lz4 where the server has it: halves chunks at a tenth of pglz's time.
DO $$
BEGIN
    ALTER TABLE chunks ALTER "values" SET COMPRESSION lz4, ALTER offsets SET COMPRESSION lz4, ALTER wide SET COMPRESSION lz4;
    ALTER TABLE blocks ALTER "values" SET COMPRESSION lz4, ALTER offsets SET COMPRESSION lz4, ALTER wide SET COMPRESSION lz4,
        ALTER series SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server has no lz4: arrays are compressed with pglz, which is slower';
END $$;

-- The last act of a commit: moves all positions by compare-and-set in the order given, takes the batch's number, gives it to the blocks that were
-- copied under `provisional`. It is a function so that nothing waits for the network between the first lock and COMMIT. One position that is not where
-- it should be raises HWF01 with its place and what was found.
CREATE FUNCTION commit_batch(
    provisional bigint, of_shards smallint[], logs text[], partitions bigint[], expected bigint[], nexts bigint[], crcs bigint[],
    more_received bigint[], more_dead bigint[], OUT batch_number bigint, OUT open_readings bigint
) LANGUAGE plpgsql AS $$
DECLARE
    found_next bigint;
BEGIN
    -- Before any lock: it takes a while where much is open.
    SELECT coalesce(sum(b.readings), 0) INTO open_readings FROM blocks b;
    FOR place IN 1 .. cardinality(logs) LOOP
        IF expected[place] IS NULL THEN
            INSERT INTO positions AS p (log, partition, next, crc, received, dead)
            VALUES (logs[place], partitions[place], nexts[place], crcs[place], more_received[place], more_dead[place])
            ON CONFLICT DO NOTHING;
        ELSE
            UPDATE positions p
            SET next = nexts[place], crc = crcs[place], received = p.received + more_received[place], dead = p.dead + more_dead[place]
            WHERE p.log = logs[place] AND p.partition = partitions[place] AND p.next = expected[place];
        END IF;
        IF NOT FOUND THEN
            SELECT p.next INTO found_next FROM positions p WHERE p.log = logs[place] AND p.partition = partitions[place];
            RAISE EXCEPTION 'partition % was moved by another writer', partitions[place]
                USING ERRCODE = 'HWF01', DETAIL = format('%s %s', place, found_next);
        END IF;
    END LOOP;
    UPDATE counters c SET next = c.next + 1 WHERE c.name = 'batch' RETURNING c.next - 1 INTO batch_number;
    UPDATE blocks b SET batch = batch_number WHERE b.shard = ANY (of_shards) AND b.batch = provisional;
END $$;

-- Lets the oldest letters go until the rest fits, at most 1,000 at a time; says how many went. One process at a time does it, the others need not wait.
CREATE FUNCTION drop_oldest_letters(most_letters bigint, most_bytes bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    letters_now bigint;
    bytes_now bigint;
    went bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7232621135146281332) THEN
        RETURN 0;
    END IF;
    WITH folded AS (DELETE FROM letter_tally t RETURNING t.letters, t.bytes, t.dropped)
    INSERT INTO letter_tally SELECT sum(f.letters), sum(f.bytes), sum(f.dropped) FROM folded f HAVING count(*) > 0
    RETURNING letters, bytes INTO letters_now, bytes_now;
    IF coalesce(letters_now, 0) <= most_letters AND coalesce(bytes_now, 0) <= most_bytes THEN
        RETURN 0;
    END IF;
    WITH oldest AS (
        SELECT o.id,
            count(*) FILTER (WHERE o.have = o.parts) OVER before AS letters_before, coalesce(sum(o.bytes) OVER before, 0) AS bytes_before
        FROM (SELECT l.id, l.received_at, l.have, l.parts, l.bytes FROM dead_letters l ORDER BY l.received_at, l.id LIMIT 1000) o
        WINDOW before AS (ORDER BY o.received_at, o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), gone AS (
        DELETE FROM dead_letters l USING oldest o
        WHERE l.id = o.id AND (letters_now - o.letters_before > most_letters OR bytes_now - o.bytes_before > most_bytes)
        RETURNING l.id, l.bytes, l.have = l.parts AS whole
    ), parts_gone AS (
        DELETE FROM dead_letter_parts p USING gone g WHERE p.id = g.id
    )
    INSERT INTO letter_tally
    SELECT -count(*) FILTER (WHERE g.whole), -coalesce(sum(g.bytes), 0), count(*) FROM gone g
    RETURNING dropped INTO went;
    RETURN went;
END $$;
