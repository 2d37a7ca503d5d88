"""The errors a user sees: each a sentence that names what is wrong and what to do."""

INTERRUPTED = 130  # the status of a command that the user stopped


class Misuse(Exception):
    """Bad input: a wrong flag, a missing or damaged file, an unknown name. Ends a command with status 2."""


class Failed(Exception):
    """What was rightly asked for could not be done to its end. Ends a command with status 1; what was saved is kept."""


def of_the_system(error: OSError) -> str:
    """What the system would not do, in a sentence: which file, and why."""
    named = f"{error.filename}: " if error.filename else ""
    return f"{named}{error.strerror or error}"


class Diverged(Failed):
    """A loss that is no number any more."""
