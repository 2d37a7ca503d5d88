"""Any folder of class folders: its own parts, a part drawn from it, Tiny ImageNet's layout."""

from pathlib import Path

import pytest

from protocol.datasets.folders import material_of
from tests.support.archives import jpeg, tar_of
from tests.support.refusals import refused


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not opened yet")


def found(folder: Path, share: float = 0.25) -> dict[str, list[tuple[str, int]]]:
    parts = material_of(folder, "mine", share, 64).parts
    return {part: [("/".join(leaf.parts), label) for leaf, label in samples] for part, samples in parts.items()}


def test_a_share_of_each_class_is_kept_for_testing_whatever_else_there_is(tmp_path: Path) -> None:
    write(tmp_path, *(f"cat/{number}.jpg" for number in range(8)), *(f"dog/{number}.png" for number in range(4)))
    write(tmp_path, "cat/notes.txt", "cat/._0.jpg", ".git/x.jpg", "loose.jpg")
    parts = found(tmp_path)
    assert [name[:3] for name, _ in parts["test"]] == ["cat", "cat", "dog"]
    assert len(parts["train"]) == 9
    assert not {name for name, _ in parts["train"]} & {name for name, _ in parts["test"]}
    assert {label for name, label in parts["train"] if name.startswith("dog")} == {1}


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_a_folder_with_parts_of_its_own_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    write(tmp_path, "train/cat/a.jpg", "train/dog/deeper/b.JPEG", f"{name}/dog/c.jpg", f"{name}/cat/d.webp")
    assert found(tmp_path) == {
        "train": [("cat/a.jpg", 0), ("dog/deeper/b.JPEG", 1)],
        "test": [("cat/d.webp", 0), ("dog/c.jpg", 1)],
    }


def test_a_class_may_be_an_archive(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.jpg", "cat/b.jpg")
    (tmp_path / "dog.tar").write_bytes(tar_of({"x.jpg": jpeg(0, 0), "y.jpg": jpeg(0, 1)}))
    parts = found(tmp_path, 0.5)
    assert len(parts["train"]) == len(parts["test"]) == 2
    assert {name.split("/")[0] for name, _ in parts["train"]} == {"cat", "dog"}


def test_tiny_imagenets_layout(tmp_path: Path) -> None:
    write(tmp_path, "train/n01/images/n01_0.JPEG", "train/n02/images/n02_0.JPEG")
    write(tmp_path, "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    assert found(tmp_path)["test"] == [("images/val_0.JPEG", 1), ("images/val_1.JPEG", 0)]
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\n")
    with refused("val_annotations.txt", "val_1.JPEG"):
        found(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\nval_1.JPEG\tn01\n")
    with refused("n03"):
        found(tmp_path)


def test_parts_of_other_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg", "val/cat/a.jpg", "val/emu/a.jpg")
    with refused("same classes", "emu"):
        found(tmp_path)


def test_what_is_no_such_folder_is_refused(tmp_path: Path) -> None:
    with refused("no folder", "absent"):
        found(tmp_path / "absent")
    with refused("holds no folders"):
        found(tmp_path)
    write(tmp_path, "train/cat/a.jpg")
    with refused("val, validation, valid or test"):
        found(tmp_path)
    write(tmp_path / "flat", "cat/a.jpg")
    for share in (0.0, 1.0, -1.0, float("nan")):
        with refused("--test-share"):
            found(tmp_path / "flat", share)


def test_links_that_lead_in_circles_or_nowhere_stop_nothing(tmp_path: Path) -> None:
    write(tmp_path, *(f"cat/{number}.jpg" for number in range(4)))
    (tmp_path / "cat" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "cat" / "up").symlink_to("..")
    made = material_of(tmp_path, "mine", 0.25, 64)
    out = {leaf.parts[-1]: leaf.why for samples in made.parts.values() for leaf, _ in samples if leaf.why}
    assert out.keys() == {"self.jpg", "gone.jpg"}


def test_what_is_compressed_is_named(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.jpg", "cat/more.tar.gz")
    with refused("more.tar.gz", "unpack it first"):
        found(tmp_path)
