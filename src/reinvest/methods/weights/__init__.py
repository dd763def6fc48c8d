"""Methods that act after the optimizer's step."""
