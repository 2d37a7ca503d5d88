"""The committed reference: a run's records and small tensors, without what is large and can be made again."""

import re
import shutil
from pathlib import Path

from compare.audit import build as audit
from compare.audit.trained_claims import read as read_trained
from compare.bench.measure import MACHINE
from compare.claims import again, clock, controls, judge, pack
from compare.claims.evidence import Evidence
from compare.load import load_runs, read_csv, read_json
from protocol.base.errors import Misuse
from protocol.base.files import new_folder
from protocol.base.tables import write_table

HOLDS = ("audit", "bench", "claims", "faults", "ladder", "lint", "one-gpu", "power", "runs", "stores")
BENCHES, CLAIMS, LADDERS, ONE_GPU = "bench", "claims", "ladder", "one-gpu"
LADDER_TABLE = "parity.csv.gz"
KEPT = ("record.json", "*.csv", "probe.safetensors", "predictions.safetensors", "features.safetensors")


def keep_claims(kept: Path, target: Path) -> None:
    """Copy the shards in ``kept``, the clock, what was trained anew and what was seen beside them to the folder
    ``target``, and write there what they show, with those that it has.
    """
    target.mkdir(parents=True, exist_ok=True)
    looked = ("layers-*.png", "neighbours-*.png", "guesses-*.png", "reading.*")
    wanted = ("*.json.gz", "*.safetensors", clock.TABLE, again.TABLE)
    found = [(kept, pattern) for pattern in wanted] + [(kept.parent, pattern) for pattern in looked]
    for path in sorted(path for folder, pattern in found for path in folder.glob(pattern)):
        shutil.copyfile(path, target / path.name)
    evidence = Evidence(pack.read(target))
    judge.write(evidence, target, target)
    write_table(target / "controls.csv", controls.COLUMNS, controls.rows(evidence))


def keep(
    runs: Path, data: Path, mistakes: Path, linted: Path, benched: Path, climbed: Path, claimed: Path, target: Path
) -> None:
    """Copy the small files of ``runs`` below ``target``, and write the audit that follows from them.

    ``mistakes``, ``linted``, ``benched``, ``climbed`` and ``claimed`` are the folders of the ladder's trials, of other
    networks' records, of the bench, of the ladder climbed whole and of the claims' shards.
    """
    with new_folder(target, HOLDS, "audit") as draft:
        ended = load_runs(runs)
        for run in (*ended.finished, *ended.diverged):
            copy = draft / "runs" / run.name
            copy.mkdir(parents=True)
            for pattern in KEPT:
                for path in run.folder.glob(pattern):
                    shutil.copyfile(path, copy / path.name)
        store = draft / "stores" / "photos-small"
        store.mkdir(parents=True)
        shutil.copyfile(data / "photos-small" / "store.json", store / "store.json")
        (draft / "power").mkdir()
        for name in ("power.csv", "sensitivity.csv"):
            if (mistakes / name).is_file():
                shutil.copyfile(mistakes / name, draft / "power" / name)
        injected = mistakes.with_name("faults") / "faults.csv"
        if injected.is_file():
            (draft / "faults").mkdir()
            shutil.copyfile(injected, draft / "faults" / "faults.csv")
        if linted.is_dir():
            shutil.copytree(linted, draft / "lint")
        # What other machines did stays, and so do the claims' shards.
        for kind in (BENCHES, CLAIMS, LADDERS, ONE_GPU):
            if (target / kind).is_dir():
                shutil.copytree(target / kind, draft / kind)
        if benched.is_dir():
            own = draft / BENCHES / folder_of(benched, "throughput.csv")
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(benched, own)
        if (visit := target.with_name(ONE_GPU)).is_dir():
            own = draft / ONE_GPU / folder_of(visit / BENCHES, "samples.csv")
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(visit, own, ignore=shutil.ignore_patterns("logs", "state", "*.safetensors", ".*"))
        if climbed.is_dir():
            own = draft / LADDERS / folder_of(climbed, "parity.csv")
            own.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(climbed / MACHINE, own / MACHINE)
            packed = {"method": "gzip", "mtime": 0}
            read_csv(climbed / "parity.csv").to_csv(own / LADDER_TABLE, index=False, compression=packed)
        if claimed.is_dir():
            keep_claims(claimed, draft / CLAIMS)
        trained = read_trained(draft / CLAIMS, "the reference")
        audit.write(draft / "audit", load_runs(draft / "runs"), draft / "stores", draft / "power", trained)


def folder_of(done: Path, table: str) -> str:
    """The name of the folder in which the reference keeps what a machine did: its processor's, in plain letters.

    Raises:
        Misuse: ``done`` does not say what it ran on, or lacks its ``table``.
    """
    if not all((done / name).is_file() for name in (MACHINE, table)):
        raise Misuse(f"what is in {done} is not complete: nox -s bench or nox -s ladder writes it anew")
    machine = read_json(done / MACHINE)
    name = machine.get("gpu") or f"{machine['processor']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def by_machine(reference: Path, kind: str) -> list[Path]:
    """The machines' folders of ``kind``, the newest first."""
    found = [path.parent for path in (reference / kind).glob(f"*/{MACHINE}")]
    return sorted(found, key=lambda folder: read_json(folder / MACHINE)["started"], reverse=True)
