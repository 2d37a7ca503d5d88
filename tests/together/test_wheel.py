"""The wheel has all that the command lines need, wherever it is installed."""

import os
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (PROJECT / name).is_file() and not name.startswith(("results/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((PROJECT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize(
    ("script", "verb"), [("alexnet-gluon", "train"), ("alexnet-deepspeed", "parity"), ("alexnet-compare", "audit")]
)
def test_each_command_line_starts(installed: Path, tmp_path: Path, script: str, verb: str) -> None:
    told = ConfigParser()
    told.read(next(installed.glob("*.dist-info")) / "entry_points.txt")
    module, _, function = told["console_scripts"][script].partition(":")
    program = f"import sys; sys.argv[0] = {script!r}; from {module} import {function}; {function}()"
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"}
    command = [sys.executable, "-P", "-c", program, verb, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{script} {verb}" in done.stdout
    assert "--out" in done.stdout


def test_what_is_no_python_is_in_it_too(installed: Path) -> None:
    for package in ("paper", "protocol", "gluon_impl", "deepspeed_impl", "compare"):
        own = [path for path in (PROJECT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        for path in own:
            assert (installed / path.relative_to(PROJECT)).is_file(), path
