UPDATE moves SET complete = true WHERE NOT complete
