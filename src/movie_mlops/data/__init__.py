"""Data: crawlers, table contracts, the lake, simulators, snapshots."""
