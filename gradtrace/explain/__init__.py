"""Formulas, symbolic and numeric derivatives."""
