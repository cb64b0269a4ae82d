UPDATE series s SET unit = u.unit FROM unnest($1::bigint[], $2::text[]) AS u (id, unit) WHERE s.id = u.id AND s.unit IS DISTINCT FROM u.unit
