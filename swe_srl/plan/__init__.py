"""What a run will take, before it is started: memory, disk, tokens and hours, from the network's shape alone."""
