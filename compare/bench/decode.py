"""How fast pictures become a store, and in how much memory: decoding alone, with scaling and cutting, on all cores."""

import io
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from compare.conductor import Watch
from protocol.base.tables import write_table
from protocol.datasets import preparation
from protocol.datasets.folders import material_of
from protocol.datasets.photos import COLOUR, photographs
from protocol.datasets.pictures import decoders, picture
from protocol.datasets.workers import cores, pool

TABLE = "decode.csv"
COLUMNS = ("what", "processes", "images", "seconds", "images_per_second", "peak_bytes", "list_bytes")
SIZE, QUALITY, EDGE = (500, 375), 90, 256  # as most of ImageNet's files are
FILES, COPIES, REPEATS = 200, 8, 3  # different files, how often each stands in the folder, times


def files() -> list[bytes]:
    """JPEGs of the photographs' parts, as large as ImageNet's."""
    random = np.random.default_rng(0)
    found = []
    coloured = [Image.fromarray(image) for image in list(photographs())[: len(COLOUR)]]
    for number in range(FILES):
        image = coloured[number % len(coloured)]
        width = int(min(image.width, image.height * SIZE[0] / SIZE[1]) * random.uniform(0.6, 1))
        height = width * SIZE[1] // SIZE[0]
        left, top = (int(random.integers(0, side + 1)) for side in (image.width - width, image.height - height))
        file = io.BytesIO()
        image.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height)).save(
            file, "JPEG", quality=QUALITY
        )
        found.append(file.getvalue())
    return found


def _decoded(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def _made(data: bytes) -> None:
    picture(data, EDGE)


MADE = "decoded, scaled and cut"
PREPARED = "prepared: read, decoded, scaled, cut, written"
ALONE: dict[str, Callable[[bytes], None]] = {
    "decoded": _decoded,
    MADE: _made,
}


def work(name: str, held: list[bytes]) -> int:
    """Do with each of ``held`` what ``name`` says."""
    for data in held:
        ALONE[name](data)
    return len(held)


def measure(folder: Path) -> list[str]:
    """Measure, write ``decode.csv`` to ``folder``, and say what it came to."""
    held, count = files(), cores()
    rows = []
    for name in ALONE:
        rows.append(_row(name, 1, FILES, [_seconds(partial(work, name, held)) for _ in range(REPEATS)]))
    with pool(count) as executor:
        _everywhere(executor, held[:1], count, MADE)  # what a process takes to start is not measured
        seconds = [_seconds(partial(_everywhere, executor, held, count, MADE)) for _ in range(REPEATS)]
    rows.append(_row(f"{MADE}, all cores", count, count * FILES, seconds))
    with _laid_out(held) as place:
        listed = _listed(place)
        seconds = [_prepared(place, number) for number in range(REPEATS)]
        watch = Watch(own=True)
        watch.start()
        preparation.prepare(place / "store", material_of(place / "in", "watched", 0.01, EDGE))
        watch.stopped.set()
    rows.append(_row(PREPARED, count, FILES * COPIES, seconds) | {"peak_bytes": watch.peak, "list_bytes": listed})
    write_table(folder / TABLE, COLUMNS, rows)
    return sentences(rows)


def _everywhere(executor: ProcessPoolExecutor, held: list[bytes], count: int, name: str) -> None:
    for future in [executor.submit(work, name, held) for _ in range(count)]:
        future.result()


@contextmanager
def _laid_out(held: list[bytes]) -> Iterator[Path]:
    """A folder of one class with every file several times."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "in", "class")
        place.mkdir(parents=True)
        for number in range(FILES * COPIES):
            # A byte behind the end makes each a file of its own.
            (place / f"{number:05}.jpg").write_bytes(held[number % FILES] + number.to_bytes(2, "big"))
        yield Path(folder)


def _prepared(place: Path, number: int) -> float:
    """Seconds from the first block of files to the last."""
    draft = place / f"draft{number}"
    draft.mkdir()
    work = preparation.Work(draft, material_of(place / "in", "timed", 0.01, EDGE))
    work.begin("")
    with pool(None) as executor:
        for future in [executor.submit(os.getpid) for _ in range(8 * cores())]:
            future.result()  # the processes have started
        return _seconds(partial(work.decode, executor))


def _listed(place: Path) -> int:
    """Bytes that the list of files takes, which grows with their number."""
    tracemalloc.start()
    work = preparation.Work(place, material_of(place / "in", "listed", 0.01, EDGE))
    jobs = list(work.jobs())
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jobs) > 1  # it is held until now
    return taken


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _row(what: str, processes: int, images: int, seconds: list[float]) -> dict[str, object]:
    typical = median(seconds)
    return {
        "what": what,
        "processes": processes,
        "images": images,
        "seconds": round(typical, 3),
        "images_per_second": round(images / typical, 1),
    }


def sentences(rows: list[dict[str, object]]) -> list[str]:
    """What the rows of ``decode.csv`` come to."""
    speed = {str(row["what"]): float(str(row["images_per_second"])) for row in rows}
    alone, made, everywhere, prepared = speed.values()
    count = rows[-1]["processes"]
    return [
        f"one core decodes {alone:,.0f} JPEGs of {SIZE[0]} x {SIZE[1]} a second ({decoders()}), and {made:,.0f} when "
        "they are scaled and cut as well",
        f"a store is prepared at {prepared:,.0f} pictures a second on {count} cores, {prepared / everywhere:.0%} of "
        f"the {everywhere:,.0f} that decoding, scaling and cutting alone reach there, in "
        f"{float(str(rows[-1]['peak_bytes'])) / 1e6:,.0f} MB",
    ]
