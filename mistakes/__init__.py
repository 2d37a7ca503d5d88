"""Mistakes planted in both backends from outside, and whether the ladder finds them: python -m mistakes."""
