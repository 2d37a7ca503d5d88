"""Every reader over damaged inputs: it succeeds with what was written, or ends with one sentence."""

import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults.mutation import KINDS, damaged, strange
from faults.subjects import Subject
from protocol.base.errors import Misuse

PATIENCE = 10  # seconds, after which a reader is taken to hang
LONGEST = 1000  # characters of a sentence, its path and remedy included

Outcome = dict[str, Any]


class Hang(BaseException):
    """Not an error of the reader's, so that it cannot take it for one."""


def attack(subject: Subject, count: int) -> list[Outcome]:
    """A row of ``faults.csv`` for each kind of damage."""
    content, right = subject.file.read_bytes(), canonical(subject.read())
    generator = random.Random(subject.name)
    shares: dict[str, Callable[[], bytes]] = {"damaged": lambda: damaged(content, generator)}
    if subject.sealed:
        shares["strange, sealed anew"] = lambda: strange(content, generator)
    found = []
    for kind, make in shares.items():
        tally: Counter[str] = Counter()
        slowest = 0.0
        for _ in range(count // len(shares)):
            altered = make()
            subject.file.write_bytes(altered)
            detects = subject.detects and kind == "damaged"
            outcome, seconds = judge(subject, right, detects=detects)
            tally[outcome] += 1
            slowest = max(slowest, seconds)
            if outcome in ("wrong", "traceback", "hang"):
                keep(subject, altered, outcome)
        found.append(_row(subject, kind, tally, slowest))
    tally, slowest = Counter(), 0.0
    for put in KINDS.values():
        subject.file.unlink()
        put(subject.file)
        outcome, seconds = judge(subject, right, detects=subject.detects)
        tally[outcome] += 1
        slowest = max(slowest, seconds)
        shutil.rmtree(subject.file) if subject.file.is_dir() else subject.file.unlink(missing_ok=True)
        subject.file.write_bytes(content)
    found.append(_row(subject, "another kind of file", tally, slowest))
    return found


def judge(subject: Subject, right: str, *, detects: bool) -> tuple[str, float]:
    """same, refused, another (where that is no fault), wrong, traceback or hang; and the seconds it took."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    started = time.monotonic()
    expected: tuple[type[Exception], ...] = (Misuse, *subject.documented)
    try:
        answer = subject.read()
        outcome = "refused" if answer is None else "same" if canonical(answer) == right else ""
        outcome = outcome or ("wrong" if detects else "another")
    except expected as error:
        outcome = "refused" if 0 < len(str(error)) < LONGEST and "\n" not in str(error) else "traceback"
    except Hang:
        outcome = "hang"
    except Exception:
        outcome = "traceback"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return outcome, time.monotonic() - started


def canonical(answer: Any) -> str:
    """Two answers are equal when these texts are."""
    if isinstance(answer, dict):
        return json.dumps({str(key): canonical(value) for key, value in answer.items()})
    if isinstance(answer, list | tuple):
        return json.dumps([canonical(value) for value in answer])
    return answer.tobytes().hex() if isinstance(answer, np.ndarray) else str(answer)


def keep(subject: Subject, altered: bytes, outcome: str) -> None:
    """Put an input that broke a reader where it can be looked at."""
    folder = Path("results/faults/inputs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{outcome}-{subject.name.replace('/', '-')}").write_bytes(altered)


def _row(subject: Subject, kind: str, tally: Counter[str], slowest: float) -> Outcome:
    counts = {outcome: tally[outcome] for outcome in ("same", "refused", "another", "wrong", "traceback", "hang")}
    return {"what": subject.name, "fault": kind, "tried": sum(tally.values()), **counts, "slowest": round(slowest, 3)}
