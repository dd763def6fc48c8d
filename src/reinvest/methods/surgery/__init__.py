"""Methods that replace modules when training starts."""
