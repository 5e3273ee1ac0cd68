"""Formats, one a file; ``base.py`` has their registry and the style that they draw in."""
