"""What a profile's jobs should have left behind, and did not: an audit of less than it says is no audit."""

from collections.abc import Iterable

from compare.ladder import oracles
from compare.load import Runs
from compare.profiles import Job
from protocol.runs.request import RUNS

SHOWN = 4  # of what is missing, in a sentence
MAY_DIVERGE = ("recipes",)  # whether an interpretation of the recipe begins to train is what that case asks


def missing(runs: Runs, jobs: Iterable[Job]) -> list[str]:
    """A sentence for each job whose run is not there, not whole or not compared with anything, and each damaged run."""
    there = {run.name: run for run in (*runs.finished, *runs.diverged)}
    truths = oracles(runs)
    found = []
    for job in jobs:
        name = job.folder.relative_to(RUNS).as_posix()
        run = there.get(name)
        if run is None:
            found.append(runs.damaged.get(name, f"{job.title} was not carried out to its end"))
        elif not job.is_of(run.record):
            found.append(f"in the place of {job.title} stands a run of another case or seed")
        elif run.record.status == "diverged" and job.case not in MAY_DIVERGE:
            found.append(f"{job.title} diverged")
        elif job.after and len(run.record.history) < 2:
            found.append(f"{job.title} was not begun elsewhere")
        elif not run.has_done(job.leaves, whole=job.whole):
            found.append(f"{job.title} did not do all that it was asked for")
        elif job.verb == "parity" or job.oracle:
            untaken = set(job.readings) - set(run.record.result.get("readings", ()))
            if run.record.plan_hash not in truths:
                found.append(f"{job.title} has no oracle that it could be compared with")
            if untaken:
                found.append(f"{job.title} lacks the reading {', '.join(sorted(untaken))}")
    return found + [damage for damage in runs.damaged.values() if damage not in found]


def sentence(found: list[str], jobs: int) -> str:
    """How much is missing, and the first of it."""
    if not found:
        return f"All {jobs} runs of the profile are there and whole."
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    named = "; ".join(found[:SHOWN])
    many = "1 thing that its runs leave is" if len(found) == 1 else f"{len(found)} things that its runs leave are"
    return f"The audit is incomplete, {many} missing or damaged (its profile has {jobs} runs): {named}{more}."
