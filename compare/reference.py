"""The committed reference: a run's records and small tensors, without what is large and can be made again."""

import json
import re
import shutil
from pathlib import Path

from compare import audit
from compare.bench import MACHINE
from compare.load import load_runs
from protocol.errors import Misuse
from protocol.files import new_folder

BENCHES = "bench"
KEPT = ("record.json", "*.csv", "probe.safetensors", "predictions.safetensors", "features.safetensors")


def keep(runs: Path, data: Path, mistakes: Path, linted: Path, benched: Path, target: Path) -> None:
    """Copy the small files of ``runs`` below ``target``, and write the audit that follows from them.

    ``mistakes``, ``linted`` and ``benched`` are the folders of the ladder's trials, of other networks' records and of
    the bench.
    """
    with new_folder(target) as draft:
        for run in load_runs(runs).finished:
            copy = draft / "runs" / run.name
            copy.mkdir(parents=True)
            for pattern in KEPT:
                for path in run.folder.glob(pattern):
                    shutil.copyfile(path, copy / path.name)
        store = draft / "stores" / "photos-small"
        store.mkdir(parents=True)
        shutil.copyfile(data / "photos-small" / "store.json", store / "store.json")
        (draft / "power").mkdir()
        if (mistakes / "power.csv").is_file():
            shutil.copyfile(mistakes / "power.csv", draft / "power" / "power.csv")
        if linted.is_dir():
            shutil.copytree(linted, draft / "lint")
        # Benches of other machines stay.
        if (target / BENCHES).is_dir():
            shutil.copytree(target / BENCHES, draft / BENCHES)
        if benched.is_dir():
            own = draft / BENCHES / folder_of(benched)
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(benched, own)
        audit.write(draft / "audit", load_runs(draft / "runs"), draft / "stores", draft / "power")


def folder_of(bench: Path) -> str:
    """The name of the folder in which the reference keeps ``bench``: its processor's and cores, in plain letters.

    Raises:
        Misuse: the bench does not say what it ran on, or is not complete.
    """
    if not all((bench / name).is_file() for name in (MACHINE, "throughput.csv")):
        raise Misuse(f"the bench in {bench} is not complete: nox -s bench writes it anew")
    machine = json.loads((bench / MACHINE).read_text())
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['processor']} {machine['cores']} cores".lower()).strip("-")


def benches(reference: Path) -> list[Path]:
    """The folders of the machines' benches, the newest first."""
    found = [path.parent for path in (reference / BENCHES).glob(f"*/{MACHINE}")]
    return sorted(found, key=lambda folder: json.loads((folder / MACHINE).read_text())["started"], reverse=True)
