DELETE FROM open_blocks WHERE id = ?1
