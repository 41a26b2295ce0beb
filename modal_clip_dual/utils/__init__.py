"""Helpers that know nothing of CLIP: one noun a file."""
