"""Drawings of a history: the heat map as SVG, and plots by matplotlib."""
