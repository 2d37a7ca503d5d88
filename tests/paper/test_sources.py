"""Every fact says where it stands, and what other published figures imply agrees with it."""

import re
from dataclasses import fields

import pytest

from paper.cards import CARDS, Card
from paper.cifar import RECIPE
from paper.recipe import PRESETS, Preset
from paper.sources import SOURCES

PLACE = re.compile(r"section \d|\.cfg|\.py|\.prototxt|\.cpp|^the study notes")
UNSOURCED = {"name", "source"}  # ours


@pytest.mark.parametrize("name", [*PRESETS, RECIPE.name])
def test_every_field_of_a_preset_names_the_place_that_says_it(name: str) -> None:
    assert set(SOURCES[name]) == {field.name for field in fields(Preset)} - UNSOURCED
    assert all(PLACE.search(source) for source in SOURCES[name].values())


@pytest.mark.parametrize("name", ["chm-145", "caffe", "caffenet", "notes"])
def test_what_a_preset_reads_otherwise_than_the_paper_has_a_source_of_its_own(name: str) -> None:
    paper, other = PRESETS["paper"], PRESETS[name]
    changed = {field.name for field in fields(Preset) if getattr(paper, field.name) != getattr(other, field.name)}
    assert not [field for field in changed - UNSOURCED if SOURCES[name][field] == SOURCES["paper"][field]]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_cards_headline_figures_follow_from_its_parts(card: Card) -> None:
    """They are published rounded, to half a percent at the worst."""
    assert card.flops == pytest.approx(2 * card.cores * card.clock, rel=5e-3)
    pins, bits = card.memory
    assert card.bandwidth == pytest.approx(pins * bits / 8, rel=5e-3)
    lanes, each = card.lanes
    assert card.link == pytest.approx(lanes * each, rel=5e-3)


def test_a_card_has_the_memory_that_its_name_says() -> None:
    said = {card.name: int(found[1]) for card in CARDS if (found := re.search(r"(\d+) GB$", card.name))}
    assert said == {card.name: card.gib for card in CARDS if card.name in said}
    assert len(said) == 4
