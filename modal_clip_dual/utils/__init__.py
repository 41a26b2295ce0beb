"""Helpers that know nothing about CLIP, one topic per file."""
