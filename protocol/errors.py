"""The one kind of error a user sees: a sentence that names what is wrong and what to do."""


class Misuse(Exception):
    """Bad input: a wrong flag, a missing or damaged file, an unknown name. Ends a command with status 2."""
