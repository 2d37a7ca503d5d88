"""Writing a store from image files: on all cores, in bounded memory, gone on with after whatever ended it.

While it is written, the draft of the store holds beside the arrays

    journal.jsonl        a line for each block of files that is done
    digests.npy          by place, the first half of the SHA-256 of each training file, then of each test file

and the finished store, beside what every store has,

    material.json        a hash of the files that it was made of
    files.csv            which file each picture comes from
    remarks.csv          which of them were left out, and what was unusual about others

A picture's place is drawn, so that the first k of a store are a fair cut of all classes, while files are read in their
own order, which a disk prefers. Places of files that were left out are filled from the end. Everything follows from the
files and their order alone: whichever worker does what, and however often it is killed, the same bytes come out.
"""

import csv
import hashlib
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.files import check_replaceable, new_folder, replacing, write_text
from protocol.base.log import log
from protocol.base.random_bits import Purpose, words
from protocol.datasets import store
from protocol.datasets.colours import Sums, add
from protocol.datasets.pictures import Unreadable, decoders, picture
from protocol.datasets.store import HOLDS, PARTS, VERSION, Manifest, read_manifest
from protocol.datasets.tree import Leaf
from protocol.datasets.workers import display, each, pool

MATERIAL, SOURCES, REMARKS = "material.json", "files.csv", "remarks.csv"
JOURNAL, DIGESTS = "journal.jsonl", "digests.npy"
OWN = (*HOLDS, MATERIAL, SOURCES, REMARKS, JOURNAL, DIGESTS)  # all that a store of this module, or its draft, may hold
BLOCK = 256  # files that are read, or pictures that are summed up, by a worker at a time
DIGEST = 16  # bytes
LARGEST_FILE = 2**28  # bytes
MOST_LEFT_OUT = 0.01  # of the files, more than which says that the data are not what they should be


class Sample(NamedTuple):
    """An image file and its class."""

    leaf: Leaf
    label: int


@dataclass(frozen=True)
class Material:
    """What a store is to be made of. ``source``: what its manifest says of that."""

    name: str
    classes: list[str]
    parts: dict[str, list[Sample]]  # train and test
    source: str
    edge: int

    def key(self) -> str:
        """A hash of every file's place, size and time, and of how it is decoded: what a draft must share to go on."""
        digest = hashlib.sha256(
            json.dumps([*map(printable, self.classes), self.edge, BLOCK, VERSION, decoders()]).encode()
        )
        times: dict[str, int] = {}
        for part in PARTS:
            for leaf, label in self.parts[part]:
                if leaf.file not in times:
                    times[leaf.file] = 0 if leaf.why else os.stat(leaf.file).st_mtime_ns
                line = f"{leaf.file}\0{leaf.offset}\0{leaf.size}\0{label}\0{times[leaf.file]}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()


class Remark(NamedTuple):
    """What there is to say of a file, or of a class. ``kept``: whether its picture is in the store."""

    part: str
    file: str
    kept: bool
    text: str


class Job(NamedTuple):
    """A block of files for a worker."""

    part: str
    number: int
    samples: list[Sample]
    places: np.ndarray


def prepare(
    folder: Path, material: Material, workers: int | None = None, most_left_out: float = MOST_LEFT_OUT
) -> Manifest:
    """Write the store of ``material`` to ``folder``, on ``workers`` cores, or on all; one that is there is left alone.

    Raises:
        Misuse: something else stands at ``folder``, or a store of other files; a part has no images; there is not
            enough room on the disk; or more than ``most_left_out`` of the files cannot be read, which are then listed
            in a file beside ``folder``.
        Failed: the system ended a worker. The same call goes on.
    """
    check_replaceable(folder, OWN, "store.json")
    for part in PARTS:
        if not material.parts[part]:
            raise Misuse(f"{material.source}: there are no images for the {part} part")
    key = material.key()
    if _is_made_of(folder, key) and (folder / "store.json").exists():
        log(f"{folder} is there, made of the same files")
        return read_manifest(folder)
    draft_of = folder.with_name(f".{folder.name}.draft")
    for there, mark in ((folder, "store.json"), (draft_of, MATERIAL)):
        if (there / mark).exists() and not _is_made_of(there, key):
            raise Misuse(f"{there} is made of other files, or in another way: delete it, or choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder, OWN, "store.json", lambda draft: _is_made_of(draft, key)) as draft:
        work = Work(draft, material)
        if not _is_made_of(draft, key):
            work.begin(key)
        # What ends the process after this is written leaves no more to do than to give the folder its name.
        if not (draft / "store.json").exists():
            with pool(workers) as executor:
                work.decode(executor)
                remarks = work.remarks()
                _check_share(folder, draft, remarks, material, most_left_out)
                work.finish(executor, remarks)
        for name in (JOURNAL, DIGESTS):
            (draft / name).unlink(missing_ok=True)
    return read_manifest(folder)


def _is_made_of(folder: Path, key: str) -> bool:
    """Whether a store, or its draft, is of the same files, decoded in the same way."""
    try:
        return bool(json.loads((folder / MATERIAL).read_text())["sha256"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_share(folder: Path, draft: Path, remarks: list[Remark], material: Material, most: float) -> None:
    out = [remark for remark in remarks if not remark.kept]
    files = sum(len(samples) for samples in material.parts.values())
    listed = folder.with_name(f"{folder.name}-left-out.csv")
    if len(out) <= most * files:
        listed.unlink(missing_ok=True)
    else:
        write_remarks(listed, out)
        raise Misuse(
            f"{len(out):,} of {files:,} files cannot be used, more than {most:.1%}: they are listed in {listed}; mend "
            f"them, or allow more with --left-out, which goes on from what is decoded ({draft})"
        )


def write_remarks(path: Path, remarks: list[Remark]) -> None:
    """``remarks.csv``."""
    rows = ((remark.part, remark.file, "yes" if remark.kept else "no", remark.text) for remark in remarks)
    _write_rows(path, [("part", "file", "kept", "remark"), *rows])


def _write_rows(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def file_names(store: Path, part: str, count: int) -> list[str]:
    """Which file each picture of a part comes from; its number where the store does not say."""
    path = store / SOURCES
    if not path.is_file():
        return [f"{part} {number}" for number in range(count)]
    with path.open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["part"] == part]


class Work:
    """A store on its way."""

    def __init__(self, draft: Path, material: Material) -> None:
        self.draft, self.material = draft, material
        self.places = {
            part: np.argsort(words(0, Purpose.ORDER, len(material.parts[part])), kind="stable") for part in PARTS
        }

    def begin(self, key: str) -> None:
        """Take the room on the disk, so that it cannot run out half-way, and start the journal."""
        picture_bytes = self.material.edge**2 * 3
        needed = (picture_bytes + DIGEST) * sum(len(places) for places in self.places.values())
        if (free := shutil.disk_usage(self.draft.parent).free) < needed:
            raise Misuse(f"the store needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB left")
        for part, places in self.places.items():
            _allocate(self.images(part), (len(places), self.material.edge, self.material.edge, 3))
        _allocate(self.draft / DIGESTS, (sum(len(places) for places in self.places.values()), DIGEST))
        write_text(self.draft / JOURNAL, "")
        write_text(self.draft / MATERIAL, json.dumps({"version": VERSION, "sha256": key}, indent=1) + "\n")

    def images(self, part: str) -> Path:
        return self.draft / f"{part}_images.npy"

    def journal(self) -> list[dict[str, Any]]:
        """The blocks that are done; a line that a kill cut short is not."""
        lines = (self.draft / JOURNAL).read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def decode(self, executor: ProcessPoolExecutor) -> None:
        """Decode the files whose blocks are not in the journal."""
        done = {(row["part"], row["block"]) for row in self.journal()}
        jobs = [job for job in self.jobs() if (job.part, job.number) not in done]
        total = sum(len(places) for places in self.places.values())
        left = sum(len(job.samples) for job in jobs)
        if left < total:
            log(f"{total - left:,} of {total:,} files are done already")
        # A line cut short is ended, so that the next one is whole.
        with (self.draft / JOURNAL).open("r+b") as journal, display("files", total, total - left) as advance:
            text = journal.read()
            journal.truncate(journal.seek(text.rfind(b"\n") + 1))
            for job, said in each(executor, decode, ((self.draft, self.material.edge, job) for job in jobs), jobs):
                row = {"part": job.part, "block": job.number, "said": said}
                journal.write(json.dumps(row).encode() + b"\n")
                journal.flush()
                os.fdatasync(journal.fileno())
                advance(len(job.samples))

    def jobs(self) -> Iterator[Job]:
        """Every block of files."""
        for part in PARTS:
            samples, places = self.material.parts[part], self.places[part]
            for number, first in enumerate(range(0, len(samples), BLOCK)):
                chosen = slice(first, first + BLOCK)
                yield Job(part, number, samples[chosen], places[chosen])

    @cached_property
    def out(self) -> dict[str, set[int]]:
        """Of each part, the files that were left out."""
        found: dict[str, set[int]] = {part: set() for part in PARTS}
        for row in self.journal():
            found[row["part"]] |= {row["block"] * BLOCK + index for index, kept, _ in row["said"] if not kept}
        return found

    def remarks(self) -> list[Remark]:
        """All there is to say of the files, in their order, and of classes."""
        said = {(row["part"], row["block"]): row["said"] for row in self.journal()}
        found = [
            Remark(job.part, name_of(job.samples[index]), kept, text)
            for job in self.jobs()
            for index, kept, text in said[job.part, job.number]
        ]
        return [*found, *self._duplicates(), *self._empty_classes()]

    def _duplicates(self) -> Iterator[Remark]:
        """Files with the same bytes as an earlier one: they stay, since the data are what they are, but it is said."""
        marks = np.load(self.draft / DIGESTS, mmap_mode="r").view(f"V{DIGEST}")[:, 0]
        first = len(self.places["train"])
        # In the order of the files, training files before test files.
        marks = marks[np.concatenate([self.places["train"], first + self.places["test"]])]
        _, earliest, inverse = np.unique(marks, return_index=True, return_inverse=True)

        def at(number: int) -> tuple[str, int, Sample]:
            part, index = ("train", number) if number < first else ("test", number - first)
            return part, index, self.material.parts[part][index]

        for number in np.flatnonzero(earliest[inverse] != np.arange(len(marks))).tolist():
            part, index, sample = at(number)
            other_part, _, other = at(int(earliest[inverse[number]]))
            if index not in self.out[part]:
                differs = "" if other.label == sample.label else ", which has another class"
                yield Remark(part, name_of(sample), True, f"the same file as {other_part} {name_of(other)}{differs}")

    def _empty_classes(self) -> Iterator[Remark]:
        for part in PARTS:
            out, samples = self.out[part], self.material.parts[part]
            counts = Counter(sample.label for index, sample in enumerate(samples) if index not in out)
            for label, name in enumerate(self.material.classes):
                if not counts[label]:
                    yield Remark(part, printable(name), True, "a class without an image")

    def finish(self, executor: ProcessPoolExecutor, remarks: list[Remark]) -> None:
        """Close the gaps, add what the training pixels say of all, and the manifest."""
        files = {part: self._close_gaps(part) for part in PARTS}
        rows = (
            (part, str(at), name_of(self.material.parts[part][file]))
            for part in PARTS
            for at, file in enumerate(files[part].tolist())
        )
        _write_rows(self.draft / SOURCES, chain([("part", "image", "file")], rows))
        sums = Sums.none(self.material.edge)
        counts = {part: len(np.load(self.images(part), mmap_mode="r")) for part in PARTS}
        checks = {part: np.empty(count, np.uint64) for part, count in counts.items()}
        jobs = [
            (part, first, min(first + BLOCK, count))
            for part, count in counts.items()
            for first in range(0, count, BLOCK)
        ]
        calls = ((self.images(part), first, stop) for part, first, stop in jobs)
        with display("pictures summed up", sum(counts.values()), 0) as advance:
            for (part, first, stop), (own, values) in each(executor, sums_of, calls, jobs):
                if part == "train":
                    sums = add(sums, own)
                checks[part][first:stop] = values
                advance(stop - first)
        for part, values in checks.items():
            np.save(self.draft / f"{part}_checks.npy", values, allow_pickle=False)
        write_remarks(self.draft / REMARKS, remarks)
        classes = [printable(name) for name in self.material.classes]
        source = f"{self.material.source}; decoded by {decoders()}"
        store.finish(self.draft, self.material.name, classes, sums, source=source, colour_statistics={})

    def _close_gaps(self, part: str) -> np.ndarray:
        """Put the last pictures in the places of those left out, and cut the file. Done twice, it comes to the same."""
        samples, places, out = self.material.parts[part], self.places[part], self.out[part]
        labels = np.empty(len(samples), np.int64)
        labels[places] = [label for _, label in samples]
        tiles = np.empty(len(samples), np.int64)  # each file is a source of its own
        tiles[places] = np.arange(len(samples))
        gaps = places[sorted(out)] if out else np.empty(0, np.int64)
        count = len(samples) - len(gaps)
        whole = np.setdiff1d(np.arange(count, len(samples)), gaps)
        moves = list(zip(np.sort(gaps[gaps < count]), whole, strict=True))
        for gap, last in moves:
            labels[gap], tiles[gap] = labels[last], tiles[last]
        path, edge = self.images(part), self.material.edge
        begins, size = offset_of(path), edge**2 * 3
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size > begins + count * size:  # else it was cut before
                for gap, last in moves:
                    moved = os.pread(file.fileno(), size, begins + int(last) * size)
                    os.pwrite(file.fileno(), moved, begins + int(gap) * size)
                os.fsync(file.fileno())
                _write_header(file, (count, edge, edge, 3), begins)
                file.truncate(begins + count * size)
        np.save(self.draft / f"{part}_labels.npy", labels[:count])
        np.save(self.draft / f"{part}_tiles.npy", tiles[:count])
        return tiles[:count]


def name_of(sample: Sample) -> str:
    """What a file is called in a list."""
    return printable("/".join(sample.leaf.parts))


def printable(name: str) -> str:
    """A file's name as text: bytes in it that are none are told by their number."""
    return name.encode(errors="backslashreplace").decode()


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    with path.open("wb") as file:
        _write_header(file, shape, None)
        begins = file.tell()
        os.posix_fallocate(file.fileno(), 0, begins + int(np.prod(shape, dtype=np.int64)))


def _write_header(file: Any, shape: tuple[int, ...], begins: int | None) -> None:
    """An array's header, as long as the one before it: numpy keeps room in it for the first dimension to change."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    assert begins is None or file.tell() == begins


@lru_cache(maxsize=4)
def offset_of(path: Path) -> int:
    """Where an array's bytes begin in its file."""
    return int(np.load(path, mmap_mode="r").offset)


# What workers do.


def decode(draft: Path, edge: int, job: Job) -> list[tuple[int, bool, str]]:
    """Decode a block into the draft. Returns, where there is something to say: the index, whether it is kept, what."""
    said: list[tuple[int, bool, str]] = []
    images, size = draft / f"{job.part}_images.npy", edge**2 * 3
    digests = draft / DIGESTS
    first = 0 if job.part == "train" else len(np.load(draft / "train_images.npy", mmap_mode="r"))
    with images.open("r+b") as pixels, digests.open("r+b") as marks:
        for index, (sample, place) in enumerate(zip(job.samples, job.places.tolist(), strict=True)):
            try:
                data = read(sample.leaf)
                square, unusual = picture(data, edge)
            except Unreadable as error:
                said.append((index, False, str(error)))
                # Two files that cannot be used are not each other's duplicates.
                mark = hashlib.sha256(f"{job.part} {job.number} {index}".encode())
            else:
                os.pwrite(pixels.fileno(), square.tobytes(), offset_of(images) + place * size)
                mark = hashlib.sha256(data)
                if unusual:
                    said.append((index, True, unusual))
            os.pwrite(marks.fileno(), mark.digest()[:DIGEST], offset_of(digests) + (first + place) * DIGEST)
        # Before the journal says that they are there, they are.
        os.fdatasync(pixels.fileno())
        os.fdatasync(marks.fileno())
    return said


def read(leaf: Leaf) -> bytes:
    """A file's bytes.

    Raises:
        Unreadable: it is no regular file, or too large, or the system does not give it.
    """
    if leaf.why:
        raise Unreadable(leaf.why)
    if leaf.size > LARGEST_FILE:
        raise Unreadable(f"the file has {leaf.size:,} bytes, more than {LARGEST_FILE:,}")
    try:
        # A pipe that has taken a file's place since would be waited for without end.
        handle = os.open(leaf.file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Unreadable("it is not a regular file")
            return os.pread(handle, leaf.size, leaf.offset)
        finally:
            os.close(handle)
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from None


def sums_of(path: Path, first: int, stop: int) -> tuple[Sums, list[int]]:
    """What the pictures from ``first`` to ``stop`` add to the sums over all, and the check of each."""
    images = np.load(path, mmap_mode="r")[first:stop]
    return Sums.of(images), [store.check_of(image) for image in images]
