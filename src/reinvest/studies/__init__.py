"""Studies of whole sequences of runs: what re-use saves when everything is charged, and what to re-use when."""
