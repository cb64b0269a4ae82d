WITH was AS (
    SELECT id, state, bytes FROM dead_letters WHERE id = $1 AND have = parts FOR UPDATE
), marked AS (
    UPDATE dead_letters l SET state = 'discarded', bytes = 0 FROM was WHERE l.id = was.id AND was.state <> 'discarded' RETURNING was.state, was.bytes
), parts_gone AS (
    DELETE FROM dead_letter_parts p USING marked WHERE p.id = $1
), told AS (
    INSERT INTO letter_tally (letters, bytes, dropped, settled, discarded)
    SELECT 0, -bytes, 0, CASE WHEN state = 'open' THEN 1 ELSE 0 END, 1 FROM marked
)
SELECT EXISTS (SELECT FROM was)
