SELECT log, partition, next, crc, received, dead FROM positions ORDER BY log, partition
