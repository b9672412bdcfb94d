"""Runnable scripts, each one a short lesson."""
