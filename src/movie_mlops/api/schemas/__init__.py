"""The bodies of the routers of the same name."""
