"""Execution of scripts and modules as python runs them, and what is known when they end."""
