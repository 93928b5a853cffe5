"""Routers: one module per subject."""
