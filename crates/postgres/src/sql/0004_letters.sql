-- What became of a dead letter since it came. `last_seen` is NULL where it came once; `attempted_at`, `outcome` and `attempt_detail` are of the last
-- retry, NULL before the first. A discarded letter has no parts any more: `have` stays `parts`, `bytes` is 0.
-- All have defaults: a process of the version before, which knows none of them, goes on writing letters.
ALTER TABLE dead_letters
    ADD COLUMN last_seen bigint,
    ADD COLUMN seen bigint NOT NULL DEFAULT 1,
    ADD COLUMN state text COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retried', 'discarded')),
    ADD COLUMN attempts bigint NOT NULL DEFAULT 0,
    ADD COLUMN attempted_at bigint,
    ADD COLUMN outcome text COLLATE "C",
    ADD COLUMN attempt_detail text;

-- Of the whole letters that are kept, how many are not open; and how many were ever discarded.
ALTER TABLE letter_tally
    ADD COLUMN settled bigint NOT NULL DEFAULT 0,
    ADD COLUMN discarded bigint NOT NULL DEFAULT 0;

-- Puts all rows of the tally together. One process at a time; FALSE where another one is at it.
CREATE FUNCTION fold_letter_tally(OUT letters_now bigint, OUT bytes_now bigint, OUT is_mine boolean) LANGUAGE plpgsql AS $$
BEGIN
    is_mine := pg_try_advisory_xact_lock(7232621135146281332);
    IF NOT is_mine THEN
        RETURN;
    END IF;
    WITH folded AS (DELETE FROM letter_tally t RETURNING t.letters, t.bytes, t.dropped, t.settled, t.discarded)
    INSERT INTO letter_tally (letters, bytes, dropped, settled, discarded)
    SELECT sum(f.letters), sum(f.bytes), sum(f.dropped), sum(f.settled), sum(f.discarded) FROM folded f HAVING count(*) > 0
    RETURNING letters, bytes INTO letters_now, bytes_now;
END $$;

-- Deletes letters and tells the tally; says how many went.
CREATE FUNCTION delete_letters(ids uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    went bigint;
BEGIN
    WITH gone AS (
        DELETE FROM dead_letters l WHERE l.id = ANY (ids) RETURNING l.id, l.bytes, l.have = l.parts AS whole, l.state
    ), parts_gone AS (
        DELETE FROM dead_letter_parts p USING gone g WHERE p.id = g.id
    ), told AS (
        INSERT INTO letter_tally (letters, bytes, dropped, settled)
        SELECT -count(*) FILTER (WHERE g.whole), -coalesce(sum(g.bytes), 0), count(*) FILTER (WHERE g.state <> 'discarded'),
            -count(*) FILTER (WHERE g.state <> 'open')
        FROM gone g
        HAVING count(*) > 0
    )
    SELECT count(*) INTO went FROM gone;
    RETURN went;
END $$;

-- Lets the oldest letters go until the rest fits, at most 1,000 at a time; says how many went. One process at a time does it, the others need not wait.
CREATE OR REPLACE FUNCTION drop_oldest_letters(most_letters bigint, most_bytes bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    tally record;
BEGIN
    SELECT * INTO tally FROM fold_letter_tally();
    IF NOT tally.is_mine OR coalesce(tally.letters_now, 0) <= most_letters AND coalesce(tally.bytes_now, 0) <= most_bytes THEN
        RETURN 0;
    END IF;
    RETURN delete_letters(ARRAY(
        SELECT o.id
        FROM (
            SELECT l.id,
                count(*) FILTER (WHERE l.have = l.parts) OVER before AS letters_before, coalesce(sum(l.bytes) OVER before, 0) AS bytes_before
            FROM (SELECT * FROM dead_letters ORDER BY received_at, id LIMIT 1000) l
            WINDOW before AS (ORDER BY l.received_at, l.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) o
        WHERE tally.letters_now - o.letters_before > most_letters OR tally.bytes_now - o.bytes_before > most_bytes
    ));
END $$;
