"""Quadrotors: their parameters, their equations of motion in torch and compiled, their tasks."""
