"""One scripted demonstrator an environment."""
