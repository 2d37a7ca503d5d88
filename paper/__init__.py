"""What the paper says, as data and arithmetic. Needs nothing beyond the standard library and numpy."""
