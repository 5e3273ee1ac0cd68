"""Checks, one family of findings a file; ``base.py`` has their registry, ``checker.py`` runs them."""
