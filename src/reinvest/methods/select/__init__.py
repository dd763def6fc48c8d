"""Methods that keep some examples of a batch."""
