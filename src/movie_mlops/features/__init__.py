"""Features: views, engineering, the store, the training set."""
