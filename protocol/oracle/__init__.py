"""The float64 network that both backends answer to, and how far they may be from it."""
