SELECT
    (SELECT count(*) FROM series),
    EXISTS (SELECT FROM positions),
    EXISTS (SELECT FROM chunks),
    EXISTS (SELECT FROM blocks),
    EXISTS (SELECT FROM dead_letters),
    EXISTS (SELECT FROM gaps)
