"""Methods that change targets."""
