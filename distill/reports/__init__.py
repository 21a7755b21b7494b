"""What is shown to people: metrics as tables, and pictures."""
