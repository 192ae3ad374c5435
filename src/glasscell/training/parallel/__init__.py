"""Training with several processes, the ranks of an MPI communicator: see docs/parallel.md."""
