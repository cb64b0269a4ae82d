-- Whatever keeps dead rows from being swept: snapshots, and writers with a transaction under way.
SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::double precision
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
