"""What carries figures in README.md and the pages in docs/: generated from the committed reference, never typed."""

from pathlib import Path

import pandas as pd

from compare.audit import power, presets
from compare.audit.questions import answers
from compare.audit.report import highlights, parity_sentence, speeds, summary
from compare.bench import throughput
from compare.bench.measure import MACHINE
from compare.ladder import KINDS
from compare.load import load_runs, read_csv, read_json
from compare.reference import imagenet, trained
from compare.reference.keep import BENCHES, LADDER_TABLE, LADDERS, by_machine
from compare.tables import COLUMNS
from protocol.base.errors import Misuse
from protocol.base.files import write_text

BEGIN = "<!-- generated from results/reference by: nox -s compare -- reference -->\n"
END = "<!-- end -->\n"
README, RESULTS, IMAGENET = Path("README.md"), Path("docs/results.md"), Path("docs/imagenet.md")


def read_tables(audit: Path) -> dict[str, pd.DataFrame]:
    """An audit's tables from its CSV files.

    Raises:
        Misuse: one is missing.
    """
    for name in COLUMNS:
        if not (audit / f"{name}.csv").is_file():
            raise Misuse(f"there is no {audit / f'{name}.csv'}; write the audit first: nox -s audit")
    found = {name: read_csv(audit / f"{name}.csv") for name in COLUMNS}
    # "none" is a mistake's name there.
    return found | {name: power.read(audit, name) for name in ("power", "sensitivity", "faults")}


def head(audit: Path) -> str:
    """README's generated part, without its markers: the verdicts, the questions in a sentence each, one table."""
    tables = read_tables(audit)
    (newest, *_) = by_machine(audit.parent, BENCHES)
    found = [
        f"**{summary(tables)}** {parity_sentence(tables['parity'])} Every claim: "
        f"[{audit.as_posix()}/audit.md]({audit.as_posix()}/audit.md).",
        "\n".join(f"- **{answer.question}** {answer.short}" for answer in answers(tables)),
        f"![Distance of every quantity from the oracle, as a share of its tolerance]({audit.as_posix()}/parity.png)",
        f"Images a second at full size, batch 128: each backend's fastest placement beside peers, on {_where(newest)}:",
        _throughput(_fastest(read_csv(newest / "throughput.csv"))),
    ]
    return "\n\n".join(found) + "\n\n"


def _fastest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each backend and precision the fastest placement, and the peers."""
    ours = table[table["peer"].notna()]
    best = ours.groupby(["backend", "precision"])["images_per_second"].transform("max")
    return pd.concat([ours[ours["images_per_second"] == best], table[table["peer"].isna()]])


def block(audit: Path) -> str:
    """The generated part of docs/results.md, without its markers; links in it lead out of docs/."""
    tables = read_tables(audit)
    found = [
        f"**{summary(tables)}** The whole table: [{audit.as_posix()}/audit.md]({audit.as_posix()}/audit.md).",
        "## The questions",
        *(f"**{answer.question}** {answer.answer}" for answer in answers(tables)),
        "## Is it one network?",
        f"In the audit: {parity_sentence(tables['parity'])} {power.sentence(tables['power'])} "
        f"{power.held(tables['faults'])}",
        *_ladders(audit.parent, tables["parity"]),
        f"![Distance of every quantity from the oracle, as a share of its tolerance]({audit.as_posix()}/parity.png)",
        "## What the audit measured",
        "\n".join(f"- {line}" for line in highlights(tables)),
        f"Speed at the audit's batches, on {_processors(audit.parent)}:",
        _speeds(tables),
        "At the start of training, under each interpretation of the recipe:",
        "\n".join(f"- {line}" for line in presets.sentences(tables["signal"], tables["first_steps"])),
        *trained.section(audit.parent),
        "## How fast",
        *_benches(audit.parent),
    ]
    return "\n\n".join(found).replace(f"]({audit.parent.as_posix()}", f"](../{audit.parent.as_posix()}") + "\n\n"


def _speeds(tables: dict[str, pd.DataFrame]) -> str:
    heads = ("backend", "placement", "variant", "batch", "threads a device", "images/s, measured", "days to train")
    lines = [heads, ["---"] * len(heads), *(row.values() for row in speeds(tables))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _benches(reference: Path) -> list[str]:
    """What each machine's bench came to: the newest with its plots, the others folded."""
    found: list[str] = []
    for folder in by_machine(reference, BENCHES):
        where, whole = _where(folder), f"[All of it]({folder.as_posix()})."
        table = _throughput(read_csv(folder / "throughput.csv"))
        sentences = "\n".join(f"- {line}" for line in throughput.sentences(folder))
        if found:
            found += ["<details>", f"<summary>The same on {where}</summary>", whole, table, sentences, "</details>"]
        else:
            title = "Every placement beside its peers at full size and batch 128, in one run (`nox -s bench`), on "
            found += [f"{title}{where}. {whole}", table, sentences, *_plots(folder)]
    return found


def _ladders(reference: Path, audited: pd.DataFrame) -> list[str]:
    """What the whole ladder came to on each machine, the newest first, and how much of it the audit has too."""
    found = []
    for folder in by_machine(reference, LADDERS):
        climbed = read_csv(folder / LADDER_TABLE).fillna({"reading": "", "where": ""})
        keys = ["rung", "quantity", "left", "right", "preset", "reading", "case", "variant"]
        both = len(climbed[keys].merge(audited.fillna({"reading": ""})[keys].drop_duplicates()))
        found.append(
            f"The whole ladder, in every interpretation of the recipe (`nox -s ladder`), on {_where(folder)}: "
            f"{parity_sentence(climbed)} {both} of them are among the audit's too."
        )
        found += _widest(climbed)
    return found


def _widest(climbed: pd.DataFrame) -> list[str]:
    """Of each kind of quantity in the free reading: the widest bound, and how far off a backend was there."""
    own = climbed[(climbed["reading"] == "free") & (climbed["right"] == "oracle") & (climbed["tolerance"] > 0)]
    if own.empty:
        return []
    own = own.assign(kind=own["quantity"].str.partition(".")[0])
    order = {kind: place for place, kind in enumerate(KINDS)}
    rows = []
    for kind, group in sorted(own.groupby("kind"), key=lambda item: order[item[0]]):
        row = group.loc[group["tolerance"].idxmax()]
        rows.append(f"| {kind} | {row['tolerance']:.1e} | {row['difference']:.1e} | {row['case']} | {row['left']} |")
    head = "| quantity | widest bound | seen there | case | by |\n|---|---|---|---|---|\n"
    intro = (
        "The widest bound of each kind of quantity in the free reading, in which float32 makes its own choices in ReLU "
        "and pooling: relative distances from the oracle. After several updates even two correct runs differ so much."
    )
    return [intro, head + "\n".join(rows)]


def _where(folder: Path) -> str:
    """The machine that a folder's figures are from, the day and the code."""
    machine = read_json(folder / MACHINE)
    day, commit = machine["started"][:10], machine["commit"][:7]
    return f"{machine['cores']} cores of {machine['processor']}, {day}, commit {commit}"


def _processors(reference: Path) -> str:
    """What timed the runs of the audit."""
    benches = load_runs(reference / "runs").of("bench")
    return " and ".join(sorted({run.record.processor for run in benches}))


def _plots(folder: Path) -> list[str]:
    return [
        f"![{title}]({folder.as_posix()}/{name}.png)"
        for name, title in (
            ("throughput", "Images a second of every placement and its peers"),
            ("layers", "Each layer's part of a step, and the least that its operations and bytes allow"),
            ("timeline", "Who computed, sent and waited when in a pipeline's step"),
            ("forecast", "Days to train against devices, and what crossing costs"),
        )
    ]


def _throughput(table: pd.DataFrame) -> str:
    """Images a second of each placement, and how many times each peer's they are."""
    peers = list(dict.fromkeys(table["peer"].dropna()))
    heads = (
        "backend",
        "placement",
        "precision",
        "images/s",
        "of peak matmul speed",
        *(f"× {peer}" for peer in peers),
    )
    lines = [heads, ["---"] * len(heads)]
    for (backend, placement, precision), own in table[table["peer"].notna()].groupby(
        ["backend", "placement", "precision"], sort=False
    ):
        first, ratios = own.iloc[0], own.set_index("peer")["ratio_to_peer"]
        line = (backend, placement, precision, f"{first['images_per_second']:.1f}", f"{first['fraction_of_limit']:.0%}")
        lines.append((*line, *(f"{ratios[peer]:.2f}" for peer in peers)))
    for row in table[table["peer"].isna()].to_dict("records"):
        line = (
            row["backend"],
            "",
            row["precision"],
            f"{row['images_per_second']:.1f}",
            f"{row['fraction_of_limit']:.0%}",
        )
        lines.append((*line, *("" for _ in peers)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_block(page: str, text: str) -> str:
    """``page`` with what stands between the markers replaced by ``text``.

    Raises:
        Misuse: the markers are not there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise Misuse("README.md or a page in docs/ has lost the markers of its generated part")
    return f"{before}{BEGIN}\n{text}{END}{tail}"


def pages(audit: Path) -> dict[Path, str]:
    """The generated part of each page."""
    return {README: head(audit), RESULTS: block(audit), IMAGENET: f"{imagenet.block(audit.parent)}\n\n"}


def regenerate(root: Path, audit: Path) -> None:
    """Write the generated parts of README.md and the pages in docs/ below ``root`` anew."""
    for page, text in pages(audit).items():
        write_text(root / page, with_block((root / page).read_text(), text))
