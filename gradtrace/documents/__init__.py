"""What Sphinx, MkDocs and ``gradtrace embed`` share: scripts run in a child process, and blocks in Markdown."""
