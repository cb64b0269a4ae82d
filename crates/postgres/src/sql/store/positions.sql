SELECT log, partition, next, crc FROM positions ORDER BY log, partition
