"""One file, one environment."""
