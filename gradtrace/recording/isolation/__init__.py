"""Isolation of the script from gradtrace: its tracebacks, warnings, signals and torch.compile stay unaffected."""
