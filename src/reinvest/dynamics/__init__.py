"""Training dynamics: what the history of an example's losses says about it."""
