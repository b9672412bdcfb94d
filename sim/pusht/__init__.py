"""PushT: a T on a table, pushed by a disc."""
