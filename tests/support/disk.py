"""What reaches the disk, and in which order."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def ordered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows from now on: names of what is put on the disk, and ``rename to NAME`` between them."""
    done: list[str] = []
    right_sync = os.fsync

    def noted(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        right_sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, _noting(getattr(os, name), done))
    return done


def _noting(right: Callable[[Any, Any], None], done: list[str]) -> Callable[[Any, Any], None]:
    def renamed(old: Any, new: Any) -> None:
        done.append(f"rename to {Path(new).name}")
        right(old, new)

    return renamed
