"""One file for each family of findings."""
