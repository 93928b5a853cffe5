"""Processors: raw records in, contracted tables, watch logs and posters out."""
