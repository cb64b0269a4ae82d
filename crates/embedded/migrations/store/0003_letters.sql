-- What became of a dead letter since it came. `last_seen` is empty where it came once; `attempted_at`, `outcome` and `attempt_detail` are of the
-- last retry, empty before the first. A discarded letter has no parts any more: `have` stays `parts`, `bytes` is 0.
ALTER TABLE dead_letters ADD COLUMN last_seen INTEGER;
ALTER TABLE dead_letters ADD COLUMN seen INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retried', 'discarded'));
ALTER TABLE dead_letters ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN attempted_at INTEGER;
ALTER TABLE dead_letters ADD COLUMN outcome TEXT;
ALTER TABLE dead_letters ADD COLUMN attempt_detail TEXT;

-- Of the whole letters that are kept, how many are not open; and how many were ever discarded.
ALTER TABLE state ADD COLUMN letters_settled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN letters_discarded INTEGER NOT NULL DEFAULT 0;
