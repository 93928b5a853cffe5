"""Serving: loaded models, histories, recommendations, predictions."""
