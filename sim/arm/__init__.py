"""The table-top world: an arm built from numbers, its inverse kinematics, one world's physics, and pictures by rays."""
