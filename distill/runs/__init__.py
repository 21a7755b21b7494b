"""What a run says of itself: its record, its directory and checkpoints, its networks and its data."""
