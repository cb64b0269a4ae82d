INSERT INTO gaps (log, partition, first, next) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
