"""Simulated sensors."""
