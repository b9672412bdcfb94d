"""Tiller: one policy stack, from simulation to the robot."""

__version__ = "0.1.0"
