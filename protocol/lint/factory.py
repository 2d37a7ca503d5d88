"""Call a factory that a user names: ``module:factory``."""

import os
import sys
from importlib import import_module
from operator import attrgetter
from typing import TypeVar

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line

Made = TypeVar("Made")


def sentence(error: BaseException) -> str:
    """What an error of foreign code says, on one line; of MXNet's, which carry a traceback with them, its last."""
    text = str(error).strip()
    if text.startswith("Traceback"):
        text = text.splitlines()[-1]
    return f"{type(error).__name__}: {one_line(' '.join(text.split()))}"


def call_factory(spec: str, kind: type[Made], kind_name: str) -> Made:
    """What the factory makes: a ``kind``. Modules are also found in the current directory.

    Raises:
        Misuse: the module or the factory is absent or fails, or makes something else.
    """
    name, _, attribute = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    # Foreign code may raise anything at all, or end the process.
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        raise Misuse(f"module {name} cannot be imported ({sentence(error)})") from None
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise Misuse(f"module {name} has no {attribute}") from None
    if not isinstance(found, kind):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise Misuse(f"{spec} cannot be called ({sentence(error)})") from None
    if not isinstance(found, kind):
        raise Misuse(f"{spec} makes a {type(found).__name__}, not {kind_name}")
    return found
