"""The vocabulary every other package speaks: numpy only, imports in under a second."""
