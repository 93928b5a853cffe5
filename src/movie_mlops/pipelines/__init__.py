"""Pipelines: the steps that take names and return small JSON."""
