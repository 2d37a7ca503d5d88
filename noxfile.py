"""Which environment runs which package.

    nox -s audit                prepare the photographs, run both backends, compare, print the verdicts
    nox -s ladder               is it one network? every rung but the last, every interpretation
    nox -s power                how much the ladder sees: plant every mistake of the catalogue in both backends
    nox -s faults               damaged files, losses of power, kills: nothing of it passes unseen
    nox -s claims               train what the claims compare, over seeds: hours, in shards
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

PROJECT = Path(__file__).parent
sys.path.insert(0, str(PROJECT))  # nox does not look for modules beside its file

from protocol.backends import BACKENDS, Backend, cannot_run_here  # noqa: E402

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"

OWN = PROJECT / "pyproject.toml"
EVERY = ["env-compare", *(backend.environment for backend in BACKENDS.values())]


def install(session: nox.Session, extra: str) -> None:
    """Install what ``locks/`` has for an environment, unless it is there already.

    Torch is in no lock, since it has a build for each kind of machine: its version is pyproject.toml's.
    """
    lock = PROJECT / "locks" / f"{extra}.txt"
    wanted = tomllib.loads(OWN.read_text())["project"]["optional-dependencies"][extra]
    torch = [requirement for requirement in wanted if requirement.startswith("torch")]
    stamp = Path(session.virtualenv.location) / "installed-requirements"
    key = hashlib.sha256("\n".join([*torch, lock.read_text()]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key:
        return
    if torch:
        # DeepSpeed's build asks for torch, so torch comes first.
        index = os.environ.get("TORCH_INDEX_URL")
        session.install(*torch, *(["--index-url", index] if index else []))
    session.install("--require-hashes", "--no-deps", "-r", str(lock))
    stamp.write_text(key)


def python_of(session: nox.Session, environment: str) -> str:
    """The interpreter of the environment that the session called ``environment`` made."""
    return str(PROJECT / Path(session.cache_dir).parent / environment / "bin" / "python")


def make_environment(backend: Backend) -> None:
    """Declare the session that makes a backend's environment."""

    def environment(session: nox.Session) -> None:
        if why := cannot_run_here(backend):
            session.log(f"{why}: the {backend.name} backend is left out here, the rest runs")
        else:
            install(session, backend.name)

    environment.__doc__ = f"Make the {backend.framework} backend's environment."
    nox.session(name=backend.environment, python=backend.python, default=False)(environment)


def make_command(backend: Backend) -> None:
    """Declare the session that runs a backend."""

    def command(session: nox.Session) -> None:
        if why := cannot_run_here(backend):
            session.error(why)
        run(session, backend.environment, "-m", backend.module, *session.posargs)

    command.__doc__ = f"Run the {backend.framework} backend: nox -s {backend.name} -- train --case photos."
    nox.session(name=backend.name, requires=[backend.environment], venv_backend="none", default=False)(command)


for own in BACKENDS.values():
    make_environment(own)
    make_command(own)


@nox.session(name="env-compare", default=False)
def env_compare(session: nox.Session) -> None:
    """Make the environment that prepares data and compares."""
    install(session, "compare")


def run(session: nox.Session, environment: str, *arguments: str) -> None:
    session.run(python_of(session, environment), *arguments, external=True)


@nox.session(requires=["env-compare"], venv_backend="none", default=False)
def prepare(session: nox.Session) -> None:
    """Prepare a data set: nox -s prepare -- photos."""
    run(session, "env-compare", "-m", "protocol", *session.posargs)


@nox.session(requires=["env-compare"], venv_backend="none", default=False)
def compare(session: nox.Session) -> None:
    """Compare runs: nox -s compare -- audit."""
    run(session, "env-compare", "-m", "compare", *session.posargs)


def here() -> list[Backend]:
    """The backends that can run on this machine."""
    return [backend for backend in BACKENDS.values() if not cannot_run_here(backend)]


def interpreters(session: nox.Session) -> list[str]:
    """Flags that name each backend's interpreter."""
    named = [f"{backend.name}={python_of(session, backend.environment)}" for backend in here()]
    return [word for name in named for word in ("--interpreter", name)]


def all_backends(session: nox.Session) -> None:
    """Stop where one of them cannot run."""
    for backend in BACKENDS.values():
        if why := cannot_run_here(backend):
            session.error(why)


@nox.session(requires=EVERY, venv_backend="none")
def audit(session: nox.Session) -> None:
    """Prepare, run both backends, compare, write results/audit, print the verdicts."""
    run(session, "env-compare", "-m", "compare", "run", *interpreters(session), *session.posargs)


@nox.session(requires=EVERY, venv_backend="none", default=False)
def ladder(session: nox.Session) -> None:
    """Hold both backends against the oracle, rung by rung: nox -s ladder, or nox -s ladder -- --rung forward."""
    run(session, "env-compare", "-m", "compare", "ladder", *interpreters(session), *session.posargs)


@nox.session(requires=EVERY, venv_backend="none", default=False)
def claims(session: nox.Session) -> None:
    """Train what the claims compare, over seeds, in shards: nox -s claims, or nox -s claims -- --shard 01."""
    all_backends(session)
    run(session, "env-compare", "-m", "compare", "claims", *interpreters(session), *session.posargs)


@nox.session(requires=EVERY, venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Time every placement at full size beside its peers and the machine's limit, and write results/bench."""
    run(session, "env-compare", "-m", "compare", "bench", *interpreters(session), *session.posargs)


@nox.session(requires=EVERY, venv_backend="none", default=False)
def power(session: nox.Session) -> None:
    """Plant every mistake of the catalogue in both backends, and see which the ladder finds."""
    all_backends(session)
    run(session, "env-compare", "-m", "mistakes", *interpreters(session), *session.posargs)


@nox.session(requires=EVERY, venv_backend="none", default=False)
def faults(session: nox.Session) -> None:
    """Damage what is read, cut the power, kill what runs: nothing of it passes unseen."""
    all_backends(session)
    run(session, "env-compare", "-m", "faults", *interpreters(session), *session.posargs)


Task = tuple[str, str, tuple[str, ...]]  # what it is called, the environment, its arguments
AT_ONCE = 2  # a test that starts processes waits for them half the time
SHARED = ("tests/paper", "tests/protocol")  # what runs in both backends' environments


def run_tasks(session: nox.Session, tasks: list[Task]) -> None:
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


def pytest_task(session: nox.Session, chosen: str, title: str, environment: str, *paths: str) -> Task:
    """``chosen``: of the tests at ``paths``, those with this mark."""
    return title, environment, ("-m", "pytest", "-m", chosen, *paths, *session.posargs)


def name_interpreters(session: nox.Session) -> None:
    """Tests that call both backends find them in the environment."""
    for backend in here():
        os.environ[f"{backend.name.upper()}_PYTHON"] = python_of(session, backend.environment)


@nox.session(requires=EVERY, venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests of every module and both backends, in minutes; tests_long has the rest."""
    name_interpreters(session)
    short = partial(pytest_task, session, "not long")
    # What starts a process for each device takes longest, and goes in parts.
    parted = [backend for backend in here() if backend.ranks]
    whole = [backend for backend in here() if not backend.ranks]
    # The longest first, so that at the end none is left alone.
    tasks = [
        *(short(f"{own.name}: command line", own.environment, *_parts(own, "train resume")) for own in parted),
        *(short(own.name, own.environment, f"tests/{own.module}") for own in whole),
        short("compare", "env-compare", *SHARED, "tests/datasets", "tests/exchange", "tests/compare"),
        *(short(f"{own.name}: the rest", own.environment, *_others(own, "train resume lint")) for own in parted),
    ]
    if len(here()) == len(BACKENDS):
        tasks.append(short("both backends", "env-compare", "tests/together"))
    tasks += [short(f"{own.name}: lint", own.environment, *_parts(own, "lint")) for own in parted]
    tasks += [short(f"shared, in {own.name}'s environment", own.environment, *SHARED) for own in whole]
    run_tasks(session, tasks)


def _parts(backend: Backend, names: str) -> list[str]:
    return [f"tests/{backend.module}/test_{name}.py" for name in names.split()]


def _others(backend: Backend, names: str) -> list[str]:
    folder = PROJECT / "tests" / backend.module
    found = sorted(path.relative_to(PROJECT).as_posix() for path in folder.glob("test_*.py"))
    return [path for path in found if path not in _parts(backend, names)]


@nox.session(requires=EVERY, venv_backend="none", default=False)
def tests_long(session: nox.Session) -> None:
    """Run what the short tests have left out: kills at every moment, more placements, every planted mistake."""
    name_interpreters(session)
    long = partial(pytest_task, session, "long")
    parted = [backend for backend in here() if backend.ranks]
    whole = [backend for backend in here() if not backend.ranks]
    # The longest first, so that neither of the two rows ends long before the other.
    tasks = [
        *(long(f"{own.name}, long: command line", own.environment, *_parts(own, "train resume")) for own in parted),
        *(long(f"{own.name}, long: the rest", own.environment, *_others(own, "train resume")) for own in parted),
        *(long(f"{own.name}, long", own.environment, f"tests/{own.module}") for own in whole),
        long("data and compare, long", "env-compare", "tests/datasets", "tests/compare"),
    ]
    if len(here()) == len(BACKENDS):
        planted = ("-m", "mistakes", *interpreters(session), "--seeds", "2", "--no-small")
        tasks.insert(0, ("every planted mistake", "env-compare", planted))
        tasks.insert(2, long("both backends, long", "env-compare", "tests/together"))
    run_tasks(session, tasks)


@nox.session(requires=["env-compare"], venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, types and the direction of imports."""
    environment = Path(python_of(session, "env-compare")).parent
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]):
        session.run(str(environment / command[0]), *command[1:], external=True)
