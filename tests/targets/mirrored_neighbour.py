"""What `sibling.py` imports."""

WORD = "found"
