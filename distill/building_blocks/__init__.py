"""What the builders of teachers and students share. It needs Keras and nothing else."""
