"""The page that shows a trace in a browser: one file with everything in it, or served while a script runs."""
