"""One file for each host: Jupyter, Sphinx, pytest."""
