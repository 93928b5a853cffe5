"""Instruments: metrics, logs, health."""
