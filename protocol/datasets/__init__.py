"""Data sets, each prepared into one store on disk."""
