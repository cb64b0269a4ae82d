-- Tells one life of the database from another: a server that took over, or was started again on what was restored, began at another time, and a
-- copy that was put in place under a running server has other tables.
SELECT hashtextextended(concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), to_regclass('series')::oid), 0)
