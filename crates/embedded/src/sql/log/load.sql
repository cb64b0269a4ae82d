SELECT identity, next, start, applied, bytes FROM log WHERE id = 0
