INSERT INTO days (day)
SELECT k.day FROM unnest($1::integer[]) AS k (day) WHERE NOT EXISTS (SELECT FROM days d WHERE d.day = k.day) ORDER BY k.day
ON CONFLICT DO NOTHING
