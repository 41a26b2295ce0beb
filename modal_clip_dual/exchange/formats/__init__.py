"""Formats of labels, one per file; ``FORMAT`` says what a format is called and how it is written and read."""
