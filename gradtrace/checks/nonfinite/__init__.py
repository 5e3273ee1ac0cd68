"""Checks of NaN and infinity: where they were born, forward or backward, and why."""
