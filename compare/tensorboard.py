"""What was logged of training runs, as TensorBoard reads it: ``tensorboard --logdir results/tensorboard``.

A run that goes on can be read too: its tables grow with every saved state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

from compare.load import read_csv
from protocol.base.errors import Misuse
from protocol.base.files import new_folder
from protocol.runs.record import EPOCH_COLUMNS, STEP_COLUMNS, Record, read_record
from protocol.runs.request import RUNS

TENSORBOARD = Path("results/tensorboard")
EVENTS = "events.out.tfevents"  # by which TensorBoard knows its files
OF_STEPS = ("loss", "error", "rate", "images_per_second")
OF_EPOCHS = ("validation_loss", "top1_error", "top5_error")


def write(runs: Path, out: Path) -> list[Path]:
    """Write a folder of events below ``out`` for each training run at or below ``runs``; whole, or not at all.

    Tags are ``train/loss`` and so on by step, and ``test/top1_error`` and so on by the step that ended the epoch;
    with ten views, ``ten_views/top1_error``.

    Raises:
        Misuse: there is no training run that has logged anything, or something else stands in a folder's place.
        Damaged: a table is none.
    """
    found: list[Path] = []
    for path in sorted(runs.glob("**/record.json")):
        record = read_record(path.parent)
        if record.kind != "train" or not (path.parent / "steps.csv").is_file():
            continue
        # Below the folder of all runs a run keeps its whole name: others end in the same words.
        above = RUNS if path.parent.is_relative_to(RUNS) else runs
        name = path.parent.relative_to(above)
        target = out / (name if name.parts else path.parent.name)
        _write(path.parent, record, target)
        found.append(target)
    if not found:
        raise Misuse(f"no training run in {runs} has logged anything yet: nox -s gluon -- train makes one")
    return found


def _write(run: Path, record: Record, target: Path) -> None:
    # A run that goes on writes its steps first: read the other way round, no epoch is without its steps.
    epochs, steps = (read_csv(run / f"{name}.csv") for name in ("epochs", "steps"))
    for table, columns, name in ((steps, STEP_COLUMNS, "steps"), (epochs, EPOCH_COLUMNS, "epochs")):
        if missing := set(columns) - set(table.columns):
            raise Misuse(f"{run / name}.csv has no column {sorted(missing)[0]}")
    # When each step ended, in seconds since the beginning: what tests and saving took is in none of them.
    ended = (record.case["batch"] / steps["images_per_second"]).cumsum()
    began = (run / "steps.csv").stat().st_mtime - float(ended.iloc[-1])
    with new_folder(target, (EVENTS,), EVENTS) as draft, _writer(draft) as writer:
        for row, after in zip(steps.itertuples(), ended, strict=True):
            for tag in OF_STEPS:
                writer.add_scalar(f"train/{tag}", getattr(row, tag), row.step, began + after)
        for row in epochs.itertuples():
            last = int(steps.index[steps["epoch"] == row.epoch][-1])
            views = "ten_views" if row.views == 10 else "test"
            for tag in OF_EPOCHS:
                writer.add_scalar(f"{views}/{tag}", getattr(row, tag), steps["step"][last], began + ended[last])


@contextmanager
def _writer(folder: Path) -> Iterator[SummaryWriter]:
    """Write the one file of events in ``folder``, whose name would otherwise tell the machine and the time."""
    with SummaryWriter(str(folder)) as writer:
        yield writer
    (written,) = folder.iterdir()
    written.rename(folder / EVENTS)
