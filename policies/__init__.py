"""Policies: generators, critics, and wrappers that hold another policy."""
