"""Speed, memory and days: what is measured beside peers and limits, and what is modelled from it. Knows no verdict."""
