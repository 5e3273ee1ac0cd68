"""Formats of an explanation, one a file; ``base.py`` has their registry."""
