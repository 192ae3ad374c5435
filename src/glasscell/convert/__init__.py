"""Other projects' formats: gate orders, transpositions and bias conventions live here and nowhere else."""
