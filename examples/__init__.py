"""Networks to lint."""
