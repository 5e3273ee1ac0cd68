"""Integrations, one host a file: Jupyter, Sphinx, MkDocs, pytest."""
