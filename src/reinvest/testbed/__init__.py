"""Tasks and models to try methods on: the built-in ones, and the class that turns a user's own data into a task."""
