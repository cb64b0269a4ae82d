SELECT bytes FROM chunks WHERE id = ?1
