"""Training: sources, batches, the trainer, and what a run leaves behind."""
