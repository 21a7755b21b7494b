"""Many runs: folds of cross-validation, and grids of students, losses and seeds."""
