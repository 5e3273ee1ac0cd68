"""Isolation: the script runs as it would without gradtrace: its tracebacks, warnings, signals, torch.compile."""
