"""Contracts that outsiders inherit; public through `reinvest.testing`."""
