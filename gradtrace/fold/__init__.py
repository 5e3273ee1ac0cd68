"""Folding: a pass of any size in boxes that a person can read, from which the whole graph can be had back."""

from gradtrace.fold.boxes import Box, Flow, Folded, GradientSummary, Link, Opening, View

__all__ = ["Box", "Flow", "Folded", "GradientSummary", "Link", "Opening", "View"]
