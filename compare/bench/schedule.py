"""When the stages of a pipeline compute: DeepSpeed's schedule, one forward and one backward pass in turn, simulated.

Three micro-batches on two stages; f: forward, b: backward, w: weights' gradients that no other stage waits for, which
come when what the next pass reads is there.

    stage 1        f0 b0 w0 f1 b1 w1 f2 b2 w2 end
    stage 0     f0 f1    b0    f2    b1       b2  end
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A stage's seconds: of each micro-batch ``forward``, ``backward`` and ``late``; once, at the end, ``end``.

    The stage below waits for ``backward``, and nobody for ``late``.
    """

    forward: float
    backward: float
    late: float = 0.0
    end: float = 0.0

    def busy(self, micro_batches: int) -> float:
        return micro_batches * (self.forward + self.backward + self.late) + self.end


def order(stage: int, stages: int, micro_batches: int) -> list[tuple[str, int]]:
    """What ``stage`` does in turn: fill the pipeline, go forward and backward, empty it."""
    filling = min(stages - stage, micro_batches)
    found = [("forward", number) for number in range(filling)]
    for number in range(micro_batches):
        found.append(("backward", number))
        if number + filling < micro_batches:
            found.append(("forward", number + filling))
    return found


def seconds(works: Sequence[Work], micro_batches: int) -> float:
    """From the first stage's first forward pass until the last of all has ended."""
    last = len(works) - 1
    left = [order(stage, len(works), micro_batches) for stage in range(len(works))]
    free, late = [0.0] * len(works), [0.0] * len(works)
    done: dict[tuple[int, str, int], float] = {}
    while any(left):
        for stage, work in enumerate(works):
            while left[stage]:
                doing, number = left[stage][0]
                if doing == "forward":
                    ready = done.get((stage - 1, doing, number)) if stage else 0.0
                else:
                    ready = done.get((stage + 1, doing, number)) if stage < last else 0.0
                if ready is None:
                    break
                left[stage].pop(0)
                own = work.forward if doing == "forward" else work.backward
                free[stage] = done[stage, doing, number] = max(free[stage], ready) + late[stage] + own
                late[stage] = work.late if doing == "backward" else 0.0
    return max(sum(ends) for ends in zip(free, late, (work.end for work in works), strict=True))
