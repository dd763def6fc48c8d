"""The heart: methods, chain, streams, recipes. Imports nothing else of the package."""
