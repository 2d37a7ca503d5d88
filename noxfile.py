"""Which environment runs which package.

    nox -s audit                prepare the photographs, run both backends, compare, print the verdicts
    nox -s ladder               is it one network? every rung but accuracy over seeds, every reading of the recipe
    nox -s power                how much the ladder sees: plant every mistake of the catalogue in both backends
    nox -s faults               damaged files, losses of power, kills: nothing of it passes unseen
    nox -s bench                speed of every placement beside peers and the machine's limit
    nox -s tests                every module's tests, in both backends: minutes
    nox -s tests_long           more placements, kills at every moment, every planted mistake
    nox -s gluon -- VERB ...    python -m gluon_impl ...
    nox -s deepspeed -- VERB ...  python -m deepspeed_impl ...
    nox -s compare -- VERB ...  python -m compare ...
    nox -s prepare -- photos    python -m protocol photos
    nox -s lint

MXNet and torch want different numpys, so each backend has an environment of its own, made once and kept. On a machine
without a GPU, torch's CPU build saves gigabytes: set TORCH_INDEX_URL to the package index that pytorch.org's "Start
locally" page shows for "CPU", in the environment of the first call.
"""

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"

PROJECT = Path(__file__).parent
OWN = PROJECT / "pyproject.toml"
MXNET_RUNS_HERE = sys.platform == "linux" and os.uname().machine == "x86_64"
MXNET_SENTENCE = "MXNet 1.9.1 runs on Linux x86-64 only: the gluon backend is left out here, the rest runs"


def install(session: nox.Session, *extras: str) -> None:
    """Install the dependencies that pyproject.toml lists for ``extras``, unless they are there already."""
    project = tomllib.loads(OWN.read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    stamp = Path(session.virtualenv.location) / "installed-requirements"
    key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key:
        return
    index = os.environ.get("TORCH_INDEX_URL")
    torch = [requirement for requirement in wanted if requirement.startswith("torch")]
    if torch and index:
        session.install(*torch, "--index-url", index)
    elif torch:
        # DeepSpeed's build asks for torch, so torch comes first.
        session.install(*torch)
    session.install(*wanted)
    stamp.write_text(key)


def python_of(session: nox.Session, environment: str) -> str:
    """The interpreter of the environment that the session called ``environment`` made."""
    return str(PROJECT / Path(session.cache_dir).parent / environment / "bin" / "python")


@nox.session(name="env-gluon", python="3.11", default=False)
def env_gluon(session: nox.Session) -> None:
    """Make the Gluon backend's environment."""
    if MXNET_RUNS_HERE:
        install(session, "gluon", "test")
    else:
        session.log(MXNET_SENTENCE)


@nox.session(name="env-deepspeed", default=False)
def env_deepspeed(session: nox.Session) -> None:
    """Make the DeepSpeed backend's environment."""
    install(session, "deepspeed", "test")


@nox.session(name="env-compare", default=False)
def env_compare(session: nox.Session) -> None:
    """Make the environment that prepares data and compares."""
    install(session, "compare", "test", "lint")


def run(session: nox.Session, environment: str, *arguments: str) -> None:
    session.run(python_of(session, environment), *arguments, external=True)


@nox.session(requires=["env-gluon"], venv_backend="none", default=False)
def gluon(session: nox.Session) -> None:
    """Run the Gluon backend: nox -s gluon -- train --case photos --placement columns."""
    if not MXNET_RUNS_HERE:
        session.error(MXNET_SENTENCE)
    run(session, "env-gluon", "-m", "gluon_impl", *session.posargs)


@nox.session(requires=["env-deepspeed"], venv_backend="none", default=False)
def deepspeed(session: nox.Session) -> None:
    """Run the DeepSpeed backend: nox -s deepspeed -- train --case photos --placement stages."""
    run(session, "env-deepspeed", "-m", "deepspeed_impl", *session.posargs)


@nox.session(requires=["env-compare"], venv_backend="none", default=False)
def prepare(session: nox.Session) -> None:
    """Prepare a data set: nox -s prepare -- photos."""
    run(session, "env-compare", "-m", "protocol", *session.posargs)


@nox.session(requires=["env-compare"], venv_backend="none", default=False)
def compare(session: nox.Session) -> None:
    """Compare runs: nox -s compare -- audit."""
    run(session, "env-compare", "-m", "compare", *session.posargs)


def backends(session: nox.Session) -> list[str]:
    """Flags that name each backend's interpreter."""
    found = ["--deepspeed", python_of(session, "env-deepspeed")]
    if MXNET_RUNS_HERE:
        found += ["--gluon", python_of(session, "env-gluon")]
    return found


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none")
def audit(session: nox.Session) -> None:
    """Prepare, run both backends, compare, write results/audit, print the verdicts."""
    run(session, "env-compare", "-m", "compare", "run", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def ladder(session: nox.Session) -> None:
    """Hold both backends against the oracle, rung by rung: nox -s ladder, or nox -s ladder -- --rung forward."""
    run(session, "env-compare", "-m", "compare", "ladder", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Time every placement at full size beside its peers and the machine's limit, and write results/bench."""
    run(session, "env-compare", "-m", "compare", "bench", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def power(session: nox.Session) -> None:
    """Plant every mistake of the catalogue in both backends, and see which the ladder finds."""
    if not MXNET_RUNS_HERE:
        session.error(MXNET_SENTENCE)
    run(session, "env-compare", "-m", "mistakes", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def faults(session: nox.Session) -> None:
    """Damage what is read, cut the power, kill what runs: nothing of it passes unseen."""
    if not MXNET_RUNS_HERE:
        session.error(MXNET_SENTENCE)
    run(session, "env-compare", "-m", "faults", *backends(session), *session.posargs)


Task = tuple[str, str, tuple[str, ...]]  # what it is called, the environment, its arguments
AT_ONCE = 2  # a test that starts processes waits for them half the time
SHARED = ("tests/paper", "tests/protocol")  # what runs in both backends' environments


def carry_out(session: nox.Session, tasks: list[Task]) -> None:
    """Run tasks, two at a time and in order; say when each begins and how it ended, and show what of it failed."""
    stopped, began, failed = Event(), time.monotonic(), []

    def clock(since: float) -> str:
        minutes, seconds = divmod(round(time.monotonic() - since), 60)
        return f"{minutes}:{seconds:02}"

    def run_one(task: Task) -> None:
        title, environment, arguments = task
        if stopped.is_set():
            return
        since = time.monotonic()
        print(f"[{clock(began)}] {title} ...", flush=True)
        command = [python_of(session, environment), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            said, _ = process.communicate()
        last = said.strip().splitlines()[-1:] or [""]
        if process.returncode:
            failed.append(title)
            print(said, flush=True)
        told = "failed" if process.returncode else "passed"
        print(f"[{clock(began)}] {title} {told} in {clock(since)}: {last[0].strip('= ')}", flush=True)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            list(pool.map(run_one, tasks))
        except KeyboardInterrupt:
            stopped.set()
            raise
    print(f"{len(tasks) - len(failed)} of {len(tasks)} groups of tests passed in {clock(began)}", flush=True)
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def pytest_task(session: nox.Session, title: str, environment: str, chosen: str, *paths: str) -> Task:
    """``chosen``: of the tests at ``paths``, those with this mark."""
    return title, environment, ("-m", "pytest", "-m", chosen, *paths, *session.posargs)


def name_interpreters(session: nox.Session) -> None:
    """Tests that call both backends find them in the environment."""
    if not MXNET_RUNS_HERE:
        session.log(MXNET_SENTENCE)
        return
    for backend in ("gluon", "deepspeed"):
        os.environ[f"{backend.upper()}_PYTHON"] = python_of(session, f"env-{backend}")


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests of every module and both backends, in minutes; tests_long has the rest."""
    name_interpreters(session)
    short = partial(pytest_task, session)
    # The longest first, so that at the end none is left alone.
    tasks = [
        short("deepspeed: command line", "env-deepspeed", "not long", *_parts("deepspeed_impl", "train resume")),
        *([short("gluon", "env-gluon", "not long", "tests/gluon_impl")] if MXNET_RUNS_HERE else []),
        short("compare", "env-compare", "not long", *SHARED, "tests/datasets", "tests/compare"),
        short("deepspeed: lint", "env-deepspeed", "not long", *_parts("deepspeed_impl", "lint")),
        short("deepspeed: the rest", "env-deepspeed", "not long", *_others("deepspeed_impl", "train resume lint")),
        *([short("both backends", "env-compare", "not long", "tests/together")] if MXNET_RUNS_HERE else []),
        *([short("shared, in gluon's environment", "env-gluon", "not long", *SHARED)] if MXNET_RUNS_HERE else []),
    ]
    carry_out(session, tasks)


def _parts(folder: str, names: str) -> list[str]:
    return [f"tests/{folder}/test_{name}.py" for name in names.split()]


def _others(folder: str, names: str) -> list[str]:
    found = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "tests" / folder).glob("test_*.py"))
    return [path for path in found if path not in _parts(folder, names)]


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def tests_long(session: nox.Session) -> None:
    """Run what the short tests have left out: kills at every moment, more placements, every planted mistake."""
    name_interpreters(session)
    tasks = [pytest_task(session, "deepspeed, long", "env-deepspeed", "long", "tests/deepspeed_impl")]
    if MXNET_RUNS_HERE:
        planted = ("-m", "mistakes", *backends(session), "--seeds", "4", "--no-small")
        tasks += [
            ("every planted mistake", "env-compare", planted),
            pytest_task(session, "both backends, long", "env-compare", "long", "tests/together"),
            pytest_task(session, "gluon, long", "env-gluon", "long", "tests/gluon_impl"),
        ]
    carry_out(session, tasks)


@nox.session(requires=["env-compare"], venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, types and the direction of imports."""
    environment = Path(python_of(session, "env-compare")).parent
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]):
        session.run(str(environment / command[0]), *command[1:], external=True)
