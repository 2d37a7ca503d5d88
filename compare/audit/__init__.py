"""From run folders to a verdict for every claim: tables, figures, reports. Reads no bench."""
