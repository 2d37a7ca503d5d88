"""Which of the paper's facts a network keeps that somebody else wrote, from its record alone."""
