SELECT k.place, s.key FROM unnest($1::bigint[]) WITH ORDINALITY AS k (id, place) JOIN series s USING (id)
