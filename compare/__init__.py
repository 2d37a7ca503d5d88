"""Reads run folders, holds them against each other and the paper, and writes the audit. Needs no framework."""
