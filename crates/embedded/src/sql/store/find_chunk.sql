SELECT first FROM chunks WHERE id = ?1
