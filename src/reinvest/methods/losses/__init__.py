"""Methods that change the losses of examples."""
