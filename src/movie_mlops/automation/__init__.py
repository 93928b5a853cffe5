"""Reactions: what follows from an event or a verdict."""
