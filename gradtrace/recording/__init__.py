"""Recording: the only importers of torch. They patch, hook, measure and undo."""
