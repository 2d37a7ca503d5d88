"""Damaged files, losses of power and kills, and whether any passes unseen: python -m faults."""
