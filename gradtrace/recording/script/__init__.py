"""Scripts and modules, run as python would run them, and what their end tells."""
