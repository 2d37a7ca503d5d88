"""The questions that the study notes ended in, answered from an audit's tables."""

import re
from dataclasses import dataclass

import pandas as pd

from paper.architecture import network
from paper.cost import crossing_bytes, forward_macs, parameters
from paper.recipe import PRESETS
from protocol.backends import BACKENDS

GIB = 2**30


@dataclass(frozen=True)
class Answer:
    """``claims``: which rows of ``verdicts.csv`` it rests on."""

    question: str
    answer: str
    claims: tuple[str, ...]

    @property
    def short(self) -> str:
        """Its first sentence, with the claim's verdict."""
        first = re.split(r"(?<=[.])\s(?=[A-Z])", self.answer)[0]
        verdict = re.search(r"claim ([\w-]+): (\*\*[^*]+\*\*)", self.answer)
        return first if verdict is None or verdict[2] in first else f"{first} Claim {verdict[1]}: {verdict[2]}."


def answers(tables: dict[str, pd.DataFrame]) -> list[Answer]:
    """All six, in the order they were asked."""
    verdicts = tables["verdicts"].set_index("claim").astype(object).fillna("")
    fits = tables["fits_3gb"].set_index(["variant", "devices", "policy"])["modelled_bytes"] / GIB
    split, merged = (network(name, PRESETS["paper"]) for name in ("two_column", "merged"))

    def says(claim: str) -> str:
        return f"**{verdicts.loc[claim, 'verdict']}**"

    def measured(claim: str) -> str:
        """What each backend's runs came to."""
        return " and ".join(f"{verdicts.loc[claim, name] or 'nothing yet'} ({name})" for name in BACKENDS)

    def one_level() -> str:
        """By the intervals of both backends: whether one column errs more than two."""
        low, high = (verdicts.loc["notes-merged", f"interval_{end}"] for end in ("low", "high"))
        if low == "" or low <= 0 <= high:
            return "Not told yet."
        word, side = ("Yes,", "above") if low > 0 else ("No, not", "below")
        holm = (
            ", though not after Holm's correction" if verdicts.loc["notes-merged", "verdict"] == "inconclusive" else ""
        )
        return f"{word} here: both 95 % intervals of how much more it errs lie {side} 0{holm}."

    def parted() -> str:
        """Whether all of a backend's runs together tell, where only one backend's do."""
        said = verdicts.loc["specialise", "reason"].split("; ")
        return next((f"; over all runs {part}" for part in said if part.startswith("the columns part")), "")

    def in_float64(backend: str) -> str:
        return verdicts.loc["notes-one-gpu", backend].split(" ")[0] or "an amount not measured"

    return [
        Answer(
            "Was the split only about memory?",
            "Memory is the reason the paper gives: at batch 128 the network needs "
            f"{fits['two_column', 1, '2012']:.2f} of 3 GiB on one device under cuda-convnet's buffer policy, before what "
            f"a card needs for itself, and {fits['two_column', 1, 'today']:.2f} under today's (both modelled); split, "
            f"{fits['two_column', 2, '2012']:.2f} and {fits['two_column', 2, 'today']:.2f} on each of two "
            f"(claim fits-3gb: {says('fits-3gb')}). The split also saves work: {forward_macs(split):,} multiplications an "
            f"image against {forward_macs(merged):,} without it.",
            ("fits-3gb", "two-gpu-time"),
        ),
        Answer(
            "Does it equal twice the channels?",
            f"No: {parameters(split):,} parameters against {parameters(merged):,} of the one-column network with the same "
            f"maps, because conv2, conv4 and conv5 read only their own column (claim notes-channels: {says('notes-channels')}).",
            ("notes-channels",),
        ),
        Answer(
            "Can one GPU carry it, by parallel layers?",
            "Yes, exactly: local layers become grouped ones. In float64, after five updates, one device and two differ from "
            f"the oracle by at most {' and '.join(f'{in_float64(name)} ({name})' for name in BACKENDS)} (claim "
            f"notes-one-gpu: {says('notes-one-gpu')}).",
            ("notes-one-gpu",),
        ),
        Answer(
            "Does a one-level version fall short?",
            f"{one_level()} Test error of one column with as many maps, less that of two columns: {measured('notes-merged')} "
            f"(claim notes-merged: {says('notes-merged')}).",
            ("notes-merged",),
        ),
        Answer(
            "Do shape and colour really separate, or was it chance?",
            "Run by run, held against random halves of the same kernels, the columns' kernels lie apart in colour with "
            f"{measured('specialise')}{parted()} (claim specialise: {says('specialise')}). A figure of one run's kernels, "
            "such as the paper's figure 3, settles nothing.",
            ("specialise",),
        ),
        Answer(
            "Why are there crossings, and what do they cost?",
            "So that every kernel of conv3 and every fully-connected unit sees both columns: the 2012 run without them (150) "
            f"was 1.16 / 1.12 points worse, though its layers are wider too (layers-150.cfg). They cost {crossing_bytes(split):,} bytes an image in the forward pass and as "
            f"many back: {verdicts.loc['comm-fraction', 'reason'].rpartition('; ')[2]} (claim comm-fraction: "
            f"{says('comm-fraction')}).",
            ("comm-fraction",),
        ),
    ]
