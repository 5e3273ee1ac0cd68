"""Traces of several processes: which one this is, its children, its file, and all of them merged."""
