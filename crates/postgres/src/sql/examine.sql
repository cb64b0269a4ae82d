-- What a person should know of a server before trusting it with readings. `synchronous_commit` as it is without our own session's setting.
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::integer,
    current_setting('fsync'),
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
    current_setting('full_page_writes'),
    current_setting('autovacuum'),
    current_setting('max_connections')::integer,
    pg_is_in_recovery(),
    extract(epoch FROM clock_timestamp())::double precision,
    to_regclass('schema_migrations') IS NOT NULL
