"""The committed reference: a run's records and small tensors, without what is large and can be made again."""

import shutil
from pathlib import Path

from compare import audit
from compare.load import load_runs
from protocol.files import new_folder

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
        for source, name in ((linted, "lint"), (benched, "bench")):
            if source.is_dir():
                shutil.copytree(source, draft / name)
        audit.write(draft / "audit", load_runs(draft / "runs"), draft / "stores", draft / "power")
