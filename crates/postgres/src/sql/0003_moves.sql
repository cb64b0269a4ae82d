-- A store that was, or is being, filled from another one (`headwater move`): one row at most. Until it is complete no role opens this database.
CREATE TABLE moves (
    id smallint PRIMARY KEY DEFAULT 0 CHECK (id = 0),
    -- Where it comes from, for people.
    source text NOT NULL,
    -- Which store that is, and what it holds: where that has changed, what was moved is thrown away.
    identity text NOT NULL,
    state text NOT NULL,
    complete boolean NOT NULL
);
