"""Training: splits, evaluation, the fit, the gate."""
