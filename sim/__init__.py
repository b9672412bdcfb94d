"""Simulated worlds: batched environments, sensors and scripted experts."""
