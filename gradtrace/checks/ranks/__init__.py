"""Checks of several processes that train together."""
