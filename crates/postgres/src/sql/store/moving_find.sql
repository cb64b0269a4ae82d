SELECT source, identity, state, complete FROM moves
