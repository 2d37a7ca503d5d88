"""The runs that claims are judged by."""

from collections.abc import Iterable
from pathlib import Path

from compare.claims import pack
from compare.claims.arms import ARMS, STUDIES, Arm
from compare.claims.pack import Packed
from compare.claims.plan import is_of_plan
from protocol.base.errors import Misuse


class Evidence:
    """The runs of some arms, the plan's if nothing else is said, by backend, arm and seed.

    ``store``: whose images they were trained on, where those are not the plan's own.

    Raises:
        Misuse: runs of one backend come from sources that differ, so they are no replications of each other.
    """

    def __init__(self, runs: Iterable[Packed], store: str | None = None, arms: Iterable[Arm] = ARMS) -> None:
        self.runs: dict[tuple[str, str], dict[int, Packed]] = {}
        self.arms = {arm.name: arm for arm in arms}
        sources: dict[str, tuple[str, str]] = {}
        for run in runs:
            if run.arm not in self.arms or not is_of_plan(run, self.arms[run.arm], store):
                continue
            backend, made_by = run.record.backend, run.record.sources
            known, shard = sources.setdefault(backend, (made_by, run.shard))
            if known != made_by:
                raise Misuse(
                    f"shards {shard} and {run.shard} come from different sources of the {backend} backend: their runs "
                    "are no replications of each other; run one of them anew"
                )
            self.runs.setdefault((backend, run.arm), {})[run.record.seed] = run

    @classmethod
    def of_study(cls, name: str, kept: Path) -> "Evidence":
        """The runs of a study that ``kept`` has."""
        return cls(pack.read(kept, name), arms=STUDIES[name])

    @classmethod
    def of(cls, runs: dict[tuple[str, str], dict[int, Packed]]) -> "Evidence":
        """Evidence of runs that were accepted before, by backend and arm, and by seed."""
        made = cls(())
        made.runs = runs
        return made

    def is_whole(self, backend: str, *names: str) -> bool:
        """Whether all planned runs of these arms have ended: who looks before then lets chance in."""
        return all(len(self.runs.get((backend, name), {})) >= self.arms[name].seeds for name in names)

    def arm(self, backend: str, name: str) -> tuple[dict[int, Packed], frozenset[str]]:
        """The runs of an arm that came to their end, by seed, and the keys of those that diverged."""
        own = self.runs.get((backend, name), {})
        ended = {seed: run for seed, run in own.items() if run.record.status == "finished"}
        return ended, frozenset(run.key for seed, run in own.items() if seed not in ended)
