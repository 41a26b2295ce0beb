"""Benchmark data sets, one file each: ``DATASET`` says what is known of it, a function reads it.

`loading` finds the files by walking this folder, so that a new one needs no other line.
"""
