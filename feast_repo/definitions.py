"""Feast's objects, made from `movie_mlops/features/views.py`."""

from movie_mlops.features.store import feast_objects

globals().update(feast_objects())
