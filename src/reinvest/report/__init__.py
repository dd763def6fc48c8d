"""What a person sees of a comparison: the HTML report, its pictures, and the table in the terminal.

Everything is drawn from the result file (evaluation/result.py) and from nothing else.
"""
