"""Methods that change gradients."""
