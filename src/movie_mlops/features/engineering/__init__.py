"""Feature engineering for movies, users, interactions."""
