SELECT log, partition, first, next FROM gaps ORDER BY batch, number
