"""Which of the paper's facts a linted network keeps.

Every fact is put into a few words, three times over: as the paper has it, as the network's record shows it, and as each
of the known readings and variants has it. Equal words are kept, others broken; what the record cannot show is neither.

    fact           paper            found                verdict   note
    norm's alpha   0.0001           2e-05                broken    as in chm-145, caffe
"""

from collections import Counter
from dataclasses import dataclass, fields
from math import prod

from compare.lint.expected import FACTS, Words, table_words
from compare.lint.found import words_of
from paper.architecture import network
from paper.cost import parameters
from paper.recipe import PRESETS
from protocol.base.sealed import Damaged, one_line
from protocol.lint.record import LintRecord

KEPT, BROKEN, NOT_SEEN = "kept", "broken", "not seen"
# What differs in words only: found instead of the paper's, and why it is the same.
EQUIVALENT = {
    (
        "dropout's scale",
        "scaled in training",
    ): "inverted dropout: the same network but for a factor in its weights",
    ("output", "probabilities"): "softmax is inside: a loss that applies it too would apply it twice",
    ("output", "log-probabilities"): "log-softmax is inside: a loss that applies it too would apply it twice",
}
KNOWN = {
    "two_column": ("two_column", "paper"),
    "chm-145": ("two_column", "chm-145"),
    "caffe": ("two_column", "caffe"),
    "notes": ("two_column", "notes"),
    "merged": ("merged", "paper"),
    "half": ("half", "paper"),
    "no_crossing": ("no_crossing", "paper"),
    "cross_everywhere": ("cross_everywhere", "paper"),
    "owt": ("owt", "paper"),
}
PAPER = "two_column"
CLASSES = 1000


@dataclass(frozen=True)
class Judgement:
    """One row of ``lint.csv``. ``found`` is empty where the record does not show it."""

    fact: str
    section: str
    paper: str
    found: str
    verdict: str
    note: str


COLUMNS = tuple(field.name for field in fields(Judgement))


@dataclass(frozen=True)
class Likeness:
    """The known network that a linted one resembles most, and the facts in which they still differ."""

    name: str
    compared: int
    differences: tuple[str, ...]


def judge(record: LintRecord) -> list[Judgement]:
    """A finding for each fact.

    Raises:
        Damaged: the record lacks what every lint measures, or speaks of operations that it does not have.
    """
    try:
        found = words_of(record)
    except (LookupError, ArithmeticError, ValueError) as error:
        why = one_line(f"{type(error).__name__} {error}")
        raise Damaged(
            f"the record of {one_line(record.subject)} lacks what a lint measures ({why}): lint it again"
        ) from None
    known = known_words(found)
    findings = []
    for fact, section in FACTS.items():
        paper, words = known[PAPER][fact], found.get(fact, "")
        note = EQUIVALENT.get((fact, words), "") if words != paper else ""
        verdict = NOT_SEEN if not words else KEPT if words == paper or note else BROKEN
        if fact == "parameters" and verdict == KEPT and found.get("classes") != known[PAPER]["classes"]:
            note = f"the paper's network with {found['classes']} classes"
        if verdict == BROKEN and fact != "classes":
            alike = [name for name, other in known.items() if other.get(fact) == words]
            note = f"as in {', '.join(alike)}" if alike else ""
        if fact == "parameters" and verdict == BROKEN and found.get("classes", str(CLASSES)) != str(CLASSES):
            paper = f"{paper} with {found['classes']} classes"
        findings.append(Judgement(fact, section, paper, words, verdict, note))
    return findings


def likeness(record: LintRecord) -> Likeness:
    """Of the known networks, the first of those with the fewest differences in what the record shows."""
    found = words_of(record)
    candidates = []
    for name, words in known_words(found).items():
        # What only one of the two can have, such as a norm's constants, follows from what sets them apart already.
        both = [fact for fact in FACTS if fact in found and fact in words]
        apart = (fact for fact in both if found[fact] != words[fact] and (fact, found[fact]) not in EQUIVALENT)
        candidates.append(Likeness(name, len(both), tuple(apart)))
    return min(candidates, key=lambda candidate: len(candidate.differences))


def summary(record: LintRecord, findings: list[Judgement]) -> str:
    """How many facts are kept, and what the network resembles, in a sentence each."""
    counts = Counter(finding.verdict for finding in findings)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (KEPT, BROKEN, NOT_SEEN))
    alike = likeness(record)
    apart = f"but for {', '.join(alike.differences)}" if alike.differences else "in all that was seen"
    seen = f"measured on images of {record.edge} x {record.edge}"
    return f"{one_line(record.subject)}, {seen}, of {len(findings)} facts: {told}. It is {alike.name} {apart}."


def known_words(found: Words) -> dict[str, Words]:
    """The words of each known network, with as many classes as were found: those come with the data.

    Their number need not be one that columns can share.
    """
    count = found.get("classes", "")
    classes = int(count) if count.isdecimal() else CLASSES
    known = {}
    for name, (variant, preset) in KNOWN.items():
        table = network(variant, PRESETS[preset], classes=CLASSES)
        (last,) = list(table.weighted())[-1:]
        each = 1 + prod(last.weight_shape[1:])  # parameters of a class
        words = table_words(table, PRESETS[preset])
        words["parameters"] = f"{parameters(table) + (classes - CLASSES) * each:,}"
        known[name] = words | {"classes": str(CLASSES if name == PAPER else classes)}
    return known
