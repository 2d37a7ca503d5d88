"""All that one GPU can show, in one call of some minutes, on a machine that has torch and a folder of wheels.

    python -m compare.bench.one_gpu --deepspeed python3

In turn: the small ladder in every precision, full-size parity, the bench beside its peers in strict float32, TF32 and
bfloat16 with what each allocates, and the photographs trained. What has begun is brought to its end, and nothing begins
after ``--minutes``: what is left out is said. All of it is in ``results/one-gpu``, to be taken home, where ``nox -s
compare -- gpu`` says what it comes to.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from compare.bench.measure import Collected, Contender, machine
from compare.limit import limit
from protocol.backends import DEEPSPEED
from protocol.base.errors import Misuse
from protocol.base.files import check_replaceable
from protocol.base.log import log
from protocol.command import run
from protocol.oracle.quantities import LOWERED, TAKEN

OUT = Path("results/one-gpu")
BENCH, LOGS, RUNS = "bench", "logs", "runs"
HOLDS = (BENCH, LOGS, RUNS, "parity.csv", "throughput.csv")
STORES = Path("results/stores")
STEPS = 30  # of the bench
PRECISIONS = ("fp32", *LOWERED)
PEERS = ("torch-eager", "torch-compiled")
# Whole networks, which stay where they were made.
LARGE = ("weights.safetensors", "tensors.safetensors", "choices.safetensors")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Visit:
    """One call of the program. ``device``: gpu:0, or cpu:0 to try the program itself."""

    interpreter: str
    device: str
    until: float
    out: Path
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the device has."""
        return tuple(name for name in PRECISIONS if self.device != "cpu:0" or name != "tf32")

    def begins(self, title: str) -> bool:
        """Whether there is time to begin with what ``title`` names."""
        if time.monotonic() < self.until:
            log(f"{title}; {(self.until - time.monotonic()) / 60:.1f} min in which more can begin")
            return True
        self.left_out.append(title)
        return False

    def run_verb(self, title: str, module: str, *arguments: str) -> None:
        """Run a verb to its end; what it says is in its log."""
        interpreter = sys.executable if module == "protocol" else self.interpreter
        path = self.out / LOGS / f"{title.replace(' ', '-')}.log"
        with path.open("w") as output:
            command = [interpreter, "-m", module, *arguments, "--data", str(STORES)]
            if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
                self.failed.append(title)
                log(f"{title} failed:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-5:]))

    def hold(self, case: str, readings: tuple[str, ...]) -> None:
        """Hold the network against an oracle made here."""
        title = f"parity {case}"
        if not self.begins(title):
            return
        oracle, own = self.out / RUNS / "oracle" / case, self.out / RUNS / DEEPSPEED.name / case
        asked = ("--case", case, "--readings", ",".join(readings))
        self.run_verb(f"oracle {case}", "protocol", "oracle", *asked, "--out", str(oracle))
        held = ("--oracle", str(oracle), "--devices", self.device, "--out", str(own))
        self.run_verb(title, DEEPSPEED.module, "parity", *asked, *held)
        for name in LARGE:
            (oracle / name).unlink(missing_ok=True)

    def time_steps(self) -> None:
        """Time ours and its peers, one after the other."""
        kind = "cuda" if self.device.startswith("gpu") else "cpu"
        interpreters = {DEEPSPEED.name: self.interpreter}
        if not self.begins("the limits of matrix products and copies"):
            return
        rates = limit(interpreters, kind)
        found, target = Collected(machine(rates.pop("gpu", ""))), self.out / BENCH
        found.limits.append({"repeat": 0, **rates})
        for name in (DEEPSPEED.name, *PEERS):
            for precision in self.precisions:
                contender = Contender(name, "single" if name == DEEPSPEED.name else "", precision=precision)
                if not self.begins(contender.title):
                    continue
                out = self.out / RUNS / "bench" / precision
                try:
                    samples = list(contender.run(interpreters, STORES, out, kind, STEPS))
                except Misuse as error:
                    self.failed.append(contender.title)
                    log(str(error))
                    continue
                found.add(contender, 0, samples, out, whole=True)
                found.write(target)

    def train(self) -> None:
        if self.begins("photos"):
            out = self.out / RUNS / DEEPSPEED.name / "photos"
            asked = ("--case", "photos", "--devices", self.device, "--out", str(out))
            self.run_verb("photos", DEEPSPEED.module, "train", *asked)
            (out / LARGE[0]).unlink(missing_ok=True)


@app.command()
def main(
    deepspeed: Annotated[Path, typer.Option(help="The interpreter that has torch and DeepSpeed.")],
    device: Annotated[str, typer.Option(help="gpu:0; cpu:0 tries the program where there is none.")] = "gpu:0",
    minutes: Annotated[float, typer.Option(help="After which nothing more begins.")] = 7,
    out: Annotated[Path, typer.Option(help="The folder to take home.")] = OUT,
) -> None:
    """Measure what one GPU can show."""
    if device not in ("gpu:0", "cpu:0"):
        raise Misuse(f"--device is gpu:0 or cpu:0, not {device[:40]!r}")
    if not (STORES / "photos-small" / "store.json").is_file() or not (STORES / "photos-full" / "store.json").is_file():
        raise Misuse(f"there are no photographs in {STORES}: python -m protocol photos makes them, here or elsewhere")
    check_replaceable(out, HOLDS, LOGS)
    shutil.rmtree(out, ignore_errors=True)
    (out / LOGS).mkdir(parents=True)
    visit = Visit(str(deepspeed), device, time.monotonic() + 60 * minutes, out)
    visit.hold("ladder", tuple(name for name in (*TAKEN, *LOWERED) if name in TAKEN or name in visit.precisions))
    visit.hold("parity", ("imposed",))
    visit.time_steps()
    visit.train()
    for what, titles in (("failed", visit.failed), ("left out, for lack of time", visit.left_out)):
        if titles:
            log(f"{what}: {', '.join(titles)}")
    log(f"take {out} home; there, what it comes to: nox -s compare -- gpu {out}")
    sys.exit(1 if visit.failed else 0)


if __name__ == "__main__":
    run(app)
