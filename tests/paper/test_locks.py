"""Each environment's lock has what pyproject.toml asks for, in versions that it allows, each with its checksums."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

PROJECT = Path(__file__).parents[2]
EXTRAS = {"gluon": ("gluon", "test"), "deepspeed": ("deepspeed", "test"), "compare": ("compare", "test", "lint")}
PINNED = re.compile(
    r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>\S+) \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.MULTILINE
)


def locked(name: str) -> dict[NormalizedName, str]:
    """Versions by package."""
    text = (PROJECT / "locks" / f"{name}.txt").read_text()
    found = {canonicalize_name(match["name"]): match["version"] for match in PINNED.finditer(text)}
    assert len(found) == len(re.findall(r"^\S+==", text, re.MULTILINE)), "a package has no checksum"
    return found


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_is_asked_for(name: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in EXTRAS[name]:
        wanted += project["optional-dependencies"][extra]
    found = locked(name)
    for requirement in map(Requirement, wanted):
        # Torch has a build for each kind of machine, so its version alone is pinned.
        if requirement.name == "torch":
            assert str(requirement.specifier).startswith("=="), requirement
        else:
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


def test_all_environments_have_one_pydantic_and_one_typer() -> None:
    """What reads a record is what wrote it."""
    versions = [locked(name) for name in EXTRAS]
    for package in ("pydantic", "safetensors", "typer"):
        assert len({found[canonicalize_name(package)] for found in versions}) == 1, package
