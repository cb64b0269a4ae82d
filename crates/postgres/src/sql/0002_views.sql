-- What people read (docs/sql.md): views, and functions over them that look only at the days and rows in question. They are written so that the planner
-- inlines them. The views belong to the store's user, so a reader needs rights on views only.
-- `OFFSET 0` keeps a lookup by key a lookup by key, where a plan might read whole tables instead, and computes the bounds of a question once.

-- Microseconds since 1970 as a time, exactly.
CREATE FUNCTION at_micros(micros bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (timestamp '1970-01-01' + micros * interval '1 microsecond') AT TIME ZONE 'UTC';

-- A time as microseconds since 1970, held within the years 1 to 9999.
CREATE FUNCTION micros_of("time" timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM least(greatest("time" AT TIME ZONE 'UTC', timestamp '0001-01-01'), timestamp '9999-12-31')) * 1000000)::bigint;

-- The UTC day of a time.
CREATE FUNCTION day_of(micros bigint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((micros - ((micros % 86400000000) + 86400000000) % 86400000000) / 86400000000)::integer;

-- The tables as they are.
CREATE VIEW series_rows AS SELECT id, (id % 64)::smallint AS shard, device, metric, tags, unit FROM series;
CREATE VIEW day_rows AS SELECT day FROM days;
CREATE VIEW chunk_rows AS SELECT day, shard, series, first, last, readings, step, offsets, wide, "values" FROM chunks;
CREATE VIEW block_rows AS SELECT shard, batch, first, last, readings, step, series, offsets, wide, "values" FROM blocks;
CREATE VIEW rollup_rows AS SELECT day, shard, level, series, start, count, sum, avg, min, max FROM rollups;

-- The sealed readings of a series within [from, to).
CREATE FUNCTION sealed_readings(of_series bigint, from_micros bigint, to_micros bigint)
RETURNS TABLE (micros bigint, value double precision) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT c.first + coalesce(n.wide, n.narrow * c.step), n.value
    FROM day_rows d
    CROSS JOIN LATERAL (
        SELECT * FROM chunk_rows c
        WHERE c.day = d.day AND c.shard = (of_series % 64)::smallint AND c.series = of_series AND c.first < to_micros AND c.last >= from_micros
        OFFSET 0
    ) c
    CROSS JOIN LATERAL unnest(c.offsets, c.wide, c."values") AS n (narrow, wide, value)
    WHERE d.day BETWEEN day_of(from_micros) AND day_of(to_micros)
        AND c.first + coalesce(n.wide, n.narrow * c.step) >= from_micros AND c.first + coalesce(n.wide, n.narrow * c.step) < to_micros;
END;

-- The open readings of a series within [from, to) that count: each key once, the first that came, and none that is sealed.
CREATE FUNCTION open_readings(of_series bigint, from_micros bigint, to_micros bigint)
RETURNS TABLE (micros bigint, value double precision) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT o.micros, o.value
    FROM (
        SELECT DISTINCT ON (u.micros) u.micros, n.value
        FROM (
            SELECT *, array_positions(b.series, of_series::integer) AS places
            FROM block_rows b
            WHERE b.shard = (of_series % 64)::smallint AND b.first < to_micros AND b.last >= from_micros
            OFFSET 0
        ) b
        CROSS JOIN LATERAL unnest(
            b.offsets[b.places[1] : b.places[cardinality(b.places)]],
            b.wide[b.places[1] : b.places[cardinality(b.places)]],
            b."values"[b.places[1] : b.places[cardinality(b.places)]]
        ) WITH ORDINALITY AS n (narrow, wide, value, arrival)
        CROSS JOIN LATERAL (SELECT b.first + coalesce(n.wide, n.narrow * b.step) AS micros) u
        WHERE cardinality(b.places) > 0 AND u.micros >= from_micros AND u.micros < to_micros
        ORDER BY u.micros, b.batch, n.arrival
    ) o
    WHERE NOT EXISTS (
        SELECT FROM chunk_rows c
        WHERE c.day = day_of(o.micros) AND c.shard = (of_series % 64)::smallint AND c.series = of_series
            AND c.first <= o.micros AND c.last >= o.micros
            AND CASE
                WHEN c.wide IS NOT NULL THEN o.micros - c.first = ANY (c.wide)
                ELSE (o.micros - c.first) % c.step = 0 AND ((o.micros - c.first) / c.step)::integer = ANY (c.offsets)
            END
        OFFSET 0
    );
END;

-- Every reading, each key once, sealed or not.
CREATE VIEW readings AS
SELECT s.device, s.metric, s.tags, at_micros(r.micros) AS "time", r.value, s.unit
FROM series_rows s
CROSS JOIN LATERAL (
    SELECT * FROM sealed_readings(s.id, micros_of('-infinity'), micros_of('infinity'))
    UNION ALL
    SELECT * FROM open_readings(s.id, micros_of('-infinity'), micros_of('infinity'))
) r;

-- The same of one device and metric within [from, to): looks at the days, chunks and blocks in question only.
CREATE FUNCTION readings(device text, metric text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE ("time" timestamptz, value double precision, tags jsonb) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT at_micros(r.micros), r.value, s.tags
    FROM (SELECT micros_of("from") AS from_micros, micros_of("to") AS to_micros OFFSET 0) q
    CROSS JOIN series_rows s
    CROSS JOIN LATERAL (
        SELECT * FROM sealed_readings(s.id, q.from_micros, q.to_micros)
        UNION ALL
        SELECT * FROM open_readings(s.id, q.from_micros, q.to_micros)
    ) r
    WHERE s.device = readings.device AND s.metric = readings.metric;
END;

-- The rollups of a series and level that start within [from, to).
CREATE FUNCTION rollups_of(of_series bigint, of_level smallint, from_micros bigint, to_micros bigint)
RETURNS TABLE (start bigint, count bigint, sum double precision, avg double precision, min double precision, max double precision)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT r.start, r.count, r.sum, r.avg, r.min, r.max
    FROM day_rows d
    CROSS JOIN LATERAL (
        SELECT * FROM rollup_rows r
        WHERE r.day = d.day AND r.shard = (of_series % 64)::smallint AND r.level = of_level AND r.series = of_series
            AND r.start >= from_micros AND r.start < to_micros
        OFFSET 0
    ) r
    WHERE d.day BETWEEN day_of(from_micros) AND day_of(to_micros);
END;

-- What is rolled up: windows with more than 64 sealed readings.
CREATE VIEW rollups_hour AS
SELECT s.device, s.metric, s.tags, at_micros(r.start) AS "time", r.count, r.sum, r.avg, r.min, r.max, s.unit
FROM series_rows s CROSS JOIN LATERAL rollups_of(s.id, 0::smallint, micros_of('-infinity'), micros_of('infinity')) r;

CREATE VIEW rollups_day AS
SELECT s.device, s.metric, s.tags, at_micros(r.start) AS "time", r.count, r.sum, r.avg, r.min, r.max, s.unit
FROM series_rows s CROSS JOIN LATERAL rollups_of(s.id, 1::smallint, micros_of('-infinity'), micros_of('infinity')) r;

-- The same of one device and metric within [from, to).
CREATE FUNCTION rollups_hour(device text, metric text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE ("time" timestamptz, count bigint, sum double precision, avg double precision, min double precision, max double precision, tags jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT at_micros(r.start), r.count, r.sum, r.avg, r.min, r.max, s.tags
    FROM (SELECT micros_of("from") AS from_micros, micros_of("to") AS to_micros OFFSET 0) q
    CROSS JOIN series_rows s
    CROSS JOIN LATERAL rollups_of(s.id, 0::smallint, q.from_micros, q.to_micros) r
    WHERE s.device = rollups_hour.device AND s.metric = rollups_hour.metric;
END;

CREATE FUNCTION rollups_day(device text, metric text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE ("time" timestamptz, count bigint, sum double precision, avg double precision, min double precision, max double precision, tags jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT at_micros(r.start), r.count, r.sum, r.avg, r.min, r.max, s.tags
    FROM (SELECT micros_of("from") AS from_micros, micros_of("to") AS to_micros OFFSET 0) q
    CROSS JOIN series_rows s
    CROSS JOIN LATERAL rollups_of(s.id, 1::smallint, q.from_micros, q.to_micros) r
    WHERE s.device = rollups_day.device AND s.metric = rollups_day.metric;
END;

-- Whoever is to read joins this role. It cannot log in, and has nothing but the views.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'headwater_reader') THEN
        CREATE ROLE headwater_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'this user may not create the role headwater_reader: see docs/sql.md';
    -- Roles belong to the whole server, and another database may be making it right now.
    WHEN duplicate_object OR unique_violation THEN
        NULL;
END $$;

-- Gives the role its rights. Again by hand where the role was made later.
CREATE PROCEDURE grant_reader() LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO headwater_reader', current_schema());
    GRANT SELECT ON readings, rollups_hour, rollups_day, series_rows, day_rows, chunk_rows, block_rows, rollup_rows TO headwater_reader;
EXCEPTION WHEN undefined_object THEN
    RAISE NOTICE 'there is no role headwater_reader: see docs/sql.md';
END $$;
CALL grant_reader();
