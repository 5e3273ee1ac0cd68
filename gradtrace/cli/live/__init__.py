"""Work of commands while the script runs: findings as they are first found, passes for the page."""
