"""Training: losses, batches, the trainer, and what a run leaves behind."""
