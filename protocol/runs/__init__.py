"""A run's folder: what was asked for, its record, its states, how it ends."""
