"""Replay: a tape of the forward calls, run again for finite differences and for the numbers of formulas."""
