"""What ``compare.bench.one_gpu`` brought home comes to: parity by reading, images a second beside peers, memory."""

from pathlib import Path

import pandas as pd

from compare import ladder, tables
from compare.bench import throughput
from compare.bench.measure import MACHINE
from compare.bench.one_gpu import BENCH, RUNS
from compare.load import Runs, load_runs, read_csv, read_json
from protocol.backends import DEEPSPEED
from protocol.base.errors import Misuse
from protocol.base.tables import write_table


def judge(folder: Path) -> tuple[pd.DataFrame, list[str], bool]:
    """Write ``ladder.csv`` and ``throughput.csv`` beside the runs.

    Returns the first, a sentence for each result, and whether nothing was damaged and all of parity holds.

    Raises:
        Misuse: ``folder`` is not what the program leaves.
    """
    if not (folder / RUNS).is_dir():
        raise Misuse(
            f"{folder} holds no runs: python -m compare.bench.one_gpu writes such a folder on a machine with a GPU"
        )
    runs = load_runs(folder / RUNS)
    found = ladder.rows(runs)
    tables.write(folder, "parity", found)
    table = ladder.table(found)
    sentences = [*_parity(table), *_speeds(folder), *_trained(runs)]
    sentences += [f"damaged: {sentence}" for sentence in runs.damaged.values()]
    return table, sentences, bool(not runs.damaged and not table.empty and table["agrees"].astype(bool).all())


def _parity(table: pd.DataFrame) -> list[str]:
    """How many quantities of each reading agree, and how far the farthest is."""
    judged = table[table["rung"] != "draws"].assign(share=table["difference"] / table["tolerance"])
    found = []
    for (case, reading), group in judged[judged["reading"] != ""].groupby(["case", "reading"], sort=False):
        worst = group.loc[group["share"].idxmax()]
        found.append(
            f"{case}, {reading}: {group['agrees'].sum()} of {len(group)} quantities within their tolerances; the "
            f"farthest is {worst['quantity']} at {worst['share']:.2f} of its own."
        )
    return found


def _speeds(folder: Path) -> list[str]:
    """Images a second in each precision, beside peers of the same."""
    bench = folder / BENCH
    if not (bench / "samples.csv").is_file():
        return []
    samples, limits = read_csv(bench / "samples.csv"), read_csv(bench / "limit.csv")
    rows = throughput.rows(samples, limits)
    write_table(folder / "throughput.csv", throughput.COLUMNS, rows)
    table = pd.DataFrame(rows)
    machine = read_json(bench / MACHINE)
    found = [f"On {machine.get('gpu', machine['processor'])}, {machine['started']}, commit {machine['commit']}:"]
    ours = table[table["backend"] == DEEPSPEED.name]
    for precision, group in ours.groupby("precision", sort=False):
        beside = [
            f"{row['ratio_to_peer']:.2f} times {row['peer']}"
            for row in group.to_dict("records")
            if not pd.isna(row.get("peer"))
        ]
        first = group.iloc[0]
        found.append(
            f"{precision}: {first['images_per_second']:,.0f} images/s at batch {first['batch']}, "
            f"{first['fraction_of_limit']:.0%} of peak matmul speed{', ' * bool(beside)}{', '.join(beside)}."
        )
    memory = read_csv(bench / "memory.csv")
    for row in memory[memory["kind"] == "total"].to_dict("records"):
        found.append(
            f"{row['precision']}: {row['measured_bytes'] / 2**30:.2f} GiB allocated in a step, "
            f"{row['predicted_bytes'] / 2**30:.2f} GiB predicted from the layer table ({row['method']})."
        )
    return found


def _trained(runs: Runs) -> list[str]:
    found = []
    for run in runs.of("train", case="photos"):
        epochs, steps = run.table("epochs"), run.table("steps")
        found.append(
            f"photos: test error {epochs['top1_error'].iloc[-1]:.1%} ({epochs['views'].iloc[-1]} views), "
            f"{steps['images_per_second'].median():,.0f} images/s."
        )
    return found
