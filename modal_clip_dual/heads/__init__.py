"""Classifiers on frozen embeddings, one per file."""
