UPDATE positions SET next = ?4, crc = ?5, received = received + ?6, dead = dead + ?7
WHERE log = ?1 AND partition = ?2 AND next = ?3
