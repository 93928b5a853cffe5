"""Models: algorithms, bundles, registry, training, serving."""
