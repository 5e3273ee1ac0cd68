"""Graphs in documents, for Sphinx, MkDocs and ``gradtrace embed``: scripts run in a child process, Markdown blocks."""
