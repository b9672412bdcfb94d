"""The navigation world: scenes, embodiments, fields, crowds."""
