"""The optimisation, rollout and collection loops."""
