"""The command line: parse and call. One module a command; `main` finds it and turns errors into sentences."""
