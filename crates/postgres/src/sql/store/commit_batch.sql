SELECT batch_number, open_readings FROM commit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9)
