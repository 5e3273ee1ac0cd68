"""Folding: a pass of any size in a number of boxes that a person can read, exact and with its truth kept."""

from gradtrace.fold.boxes import Box, Flow, Folded, GradientSummary, Link, Opening, View

__all__ = ["Box", "Flow", "Folded", "GradientSummary", "Link", "Opening", "View"]
