"""Physics back ends: bodies, contacts and motors, for worlds that must not be ideal."""
