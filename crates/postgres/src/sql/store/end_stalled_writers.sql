-- Writers of this program that have not sent the rest of a COPY for $1 seconds: longer than any that lives would wait itself. Neither a timeout of the
-- server nor a cancel reaches a session that waits for COPY data; until it ends, its transaction keeps dead rows from being swept, and a stalled
-- sealer its shard.
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = current_setting('application_name')
    AND pid <> pg_backend_pid() AND state = 'active' AND wait_event = 'ClientRead' AND query_start < clock_timestamp() - make_interval(secs => $1)
