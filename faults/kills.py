"""Kill a backend's runs again and again: python -m faults.kills BACKEND COUNT FOLDER.

Ten kills a run, at random moments, of random ones of its processes; each run must end as if nothing had been. Prints
how many hit a run under way.
"""

import shutil
import sys
from importlib import import_module
from pathlib import Path

from protocol.backends import BACKENDS
from tests.conftest import TEST, TRAINING, learnable_images, write


def main(backend: str, count: int, folder: Path) -> None:
    data = folder / "data"
    write(data / "photos-small", learnable_images(TRAINING, 1), learnable_images(TEST, 2))
    tests, hits, seed = import_module(f"tests.{BACKENDS[backend].module}.test_resume").TestResume(), 0, 0
    while hits < count:
        seed += 1
        hits += tests.kill_again_and_again(data, folder, seed)[0]
        shutil.rmtree(folder / "killed")
    print(hits)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
