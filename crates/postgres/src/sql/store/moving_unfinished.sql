SELECT source FROM moves WHERE NOT complete
