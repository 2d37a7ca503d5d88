"""Measuring a network that somebody else wrote, and the record of it."""
