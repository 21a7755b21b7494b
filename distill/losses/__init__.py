"""What a student is trained on: formulas, how they are combined, and how their numbers move over a run."""
