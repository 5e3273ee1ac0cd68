"""The name of the Sphinx extension, for ``extensions = ["gradtrace.sphinx"]`` in conf.py."""

from gradtrace.integrations.sphinx import setup

__all__ = ["setup"]
