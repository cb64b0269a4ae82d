SELECT k.place, (SELECT count(*) FROM series s WHERE s.device = k.device)
FROM unnest($1::text[]) WITH ORDINALITY AS k (device, place)
