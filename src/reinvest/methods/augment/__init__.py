"""Methods that change inputs."""
