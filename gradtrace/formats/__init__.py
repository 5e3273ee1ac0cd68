"""One file for each format; base.py holds what they share."""
