"""Small runs of the training commands in child processes: their files, and how they end."""
