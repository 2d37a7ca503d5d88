"""Which environment runs which package.

    nox -s audit                prepare the photographs, run both backends, compare, print the verdicts
    nox -s ladder               is it one network? every rung but accuracy over seeds, every reading of the recipe
    nox -s power                how much the ladder sees: plant every mistake of the catalogue in both backends
    nox -s faults               damaged files, losses of power, kills: nothing of it passes unseen
    nox -s bench                speed of every placement beside peers and the machine's limit
    nox -s tests                every environment's tests, the planted mistakes among them
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
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
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
    run(session, "env-compare", "-m", "tests.mistakes", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none", default=False)
def faults(session: nox.Session) -> None:
    """Damage what is read, cut the power, kill what runs: nothing of it passes unseen."""
    if not MXNET_RUNS_HERE:
        session.error(MXNET_SENTENCE)
    run(session, "env-compare", "-m", "tests.faults", *backends(session), *session.posargs)


@nox.session(requires=["env-compare", "env-deepspeed", "env-gluon"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run every environment's tests, in two rows beside each other: DeepSpeed's wait for processes half the time."""
    shared = ["tests/paper", "tests/protocol"]
    first = [("env-deepspeed", "-m", "pytest", "tests/deepspeed_impl", *session.posargs)]
    second = [("env-compare", "-m", "pytest", *shared, "tests/datasets", "tests/compare", *session.posargs)]
    if MXNET_RUNS_HERE:
        for backend in ("gluon", "deepspeed"):
            session.env[f"{backend.upper()}_PYTHON"] = python_of(session, f"env-{backend}")
        first.append(("env-compare", "-m", "pytest", "tests/together", *session.posargs))
        second += [
            ("env-gluon", "-m", "pytest", *shared, "tests/gluon_impl", *session.posargs),
            ("env-compare", "-m", "tests.mistakes", *backends(session), "--seeds", "4", "--no-small"),
        ]
    else:
        session.log(MXNET_SENTENCE)

    stopped = Event()

    def carry_out(commands: list[tuple[str, ...]]) -> None:
        for environment, *arguments in commands:
            if stopped.is_set():
                return
            try:
                # Shown when it has ended: two at a time would be read as one.
                print(session.run(python_of(session, environment), *arguments, external=True, silent=True), flush=True)
            except BaseException:
                stopped.set()
                raise

    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            list(pool.map(carry_out, [first, second]))
        except KeyboardInterrupt:
            stopped.set()
            raise


@nox.session(requires=["env-compare"], venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, types and the direction of imports."""
    environment = Path(python_of(session, "env-compare")).parent
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]):
        session.run(str(environment / command[0]), *command[1:], external=True)
