"""Work shared among the machines of a Ray cluster. Ray is imported by nothing else, and only where it is used."""
