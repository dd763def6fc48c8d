"""Ratios against hand-written loops and plain tools; every module prints JSON lines. `make bench` runs them all."""
