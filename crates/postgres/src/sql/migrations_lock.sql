-- One process at a time. The number is "headwatr" in ASCII.
SELECT pg_advisory_xact_lock(7521962890172195954)
