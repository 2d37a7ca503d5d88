"""``audit.md`` and the self-contained ``audit.html``, from the tables alone."""

import base64
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from compare.audit import power, presets
from compare.audit.plots import FIGURES
from compare.audit.questions import answers
from compare.audit.verdicts import Verdict
from compare.ladder import RUNGS, first_divergence
from compare.load import Runs, read_csv
from protocol.base.files import write_text
from protocol.base.log import log

HERE = Path(__file__).parent


def summary(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: how many claims got which verdict."""
    counts = tables["verdicts"]["verdict"].value_counts()
    parts = [f"{counts[verdict.value]} {verdict.value}" for verdict in Verdict if verdict.value in counts]
    return f"Of {len(tables['verdicts'])} claims: {', '.join(parts)}."


def each_quantity(parity: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of ``parity.csv`` in words, with the share of its tolerance that each difference takes up."""
    share = parity["difference"] / parity["tolerance"]
    exact = parity["difference"].where(parity["difference"] == 0, float("inf"))
    table = parity.assign(share=share.where(parity["tolerance"] > 0, exact))
    return [
        {
            **row,
            "quantity": f"{row['quantity']} {row['reading']}".strip(),
            "difference": f"{row['difference']:.1e}",
            "share": f"{row['share']:.2f}",
            "worst": row["share"],
        }
        for row in table.to_dict("records")
    ]


def worst_by_rung(parity: pd.DataFrame) -> list[dict[str, Any]]:
    """Each rung of each backend's placement, over all cases, with its worst quantity; lowest rung first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in each_quantity(parity):
        groups.setdefault((row["rung"], row["left"]), []).append(row)
    found = []
    for _, group in sorted(groups.items(), key=lambda item: RUNGS.index(item[0][0])):
        worst = max(group, key=lambda row: row["worst"])
        found.append({**worst, "quantities": len(group), "agrees": all(row["agrees"] for row in group)})
    return found


def parity_sentence(parity: pd.DataFrame) -> str:
    """Whether all agree; otherwise the first divergence, with how far and where."""
    if parity.empty:
        return "No quantity was compared."
    first = first_divergence(parity)
    if first is None:
        return f"All {len(parity)} quantities agree within their tolerances."
    reading = f", reading {first['reading']}" if first["reading"] else ""
    failing = int((~parity["agrees"].astype(bool)).sum())
    return (
        f"{failing} of {len(parity)} quantities do not agree; the first: {first['quantity']} of {first['left']}, case "
        f"{first['case']}, on rung {first['rung']}{reading}: {first['difference']:.2e} against {first['tolerance']:.2e}, "
        f"at {first['where']}."
    )


def highlights(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Sentences with this run's figures."""
    lines = []
    for row in tables["colour_bar"].to_dict("records"):
        lines.append(
            f"{row['backend']} recognises {row['accuracy']:.1%} of the photographs' test crops; from colour statistics alone "
            f"a linear classifier recognises {row['linear']:.1%} and a forest {row['forest']:.1%}."
        )
    for row in tables["scaling"][tables["scaling"]["source"] == "modelled"].to_dict("records"):
        lines.append(
            f"Two GTX 580 have to sustain {row['images_per_second']:.0f} images/s to train in {row['days']:.0f} days (modelled)."
        )
    for batch, group in tables["stages"].groupby("batch"):
        lines.append(f"Pipeline stages, batch {batch}: the slower does {group['share'].max():.1%} of the compute time.")
    return lines


def speeds(tables: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Images a second as measured, and what they come to, in words."""
    measured = tables["scaling"][tables["scaling"]["source"] == "measured"]
    return [
        {
            "backend": row["backend"],
            "placement": row["placement"],
            "variant": row["variant"],
            "batch": str(int(row["batch"])),
            "threads": str(int(row["threads"])),
            "speed": f"{row['images_per_second']:.1f}",
            "days": f"{row['days']:.0f}",
        }
        for row in measured.to_dict("records")
    ]


def surroundings(runs: Runs) -> list[str]:
    lines: dict[str, None] = {}
    for run in runs.finished:
        record = run.record
        versions = ", ".join(f"{name} {version}" for name, version in record.packages.items())
        norm = f"; response norm: {record.norm}" if record.norm else ""
        lines[f"{record.backend}: {versions}; {record.processor}{norm}"] = None
    return list(lines)


def provenance(runs: Runs) -> str:
    commits = sorted({run.record.commit[:12] + "+" * run.record.commit.endswith("+") for run in runs.finished})
    return (
        f"From {len(runs.finished)} runs at {'commits' if len(commits) > 1 else 'commit'} {', '.join(commits)}. Photographs stand in for ImageNet: directions seen on "
        "them are small-scale evidence and can't contradict a claim about ImageNet."
    )


def write(
    folder: Path,
    tables: dict[str, pd.DataFrame],
    runs: Runs,
    figures: list[str],
    reference: Path | None,
    incomplete: str,
) -> None:
    """Write both reports; ``reference`` is the committed audit, shown in a column of its own.

    ``incomplete``: what this one lacks, in a sentence.
    """
    verdicts = tables["verdicts"].astype(object).where(tables["verdicts"].notna(), "").to_dict("records")
    known = {}
    if reference is not None and (reference / "verdicts.csv").is_file():
        kept = read_csv(reference / "verdicts.csv")
        if {"claim", "verdict"} <= set(kept.columns):
            known = kept.set_index("claim")["verdict"].to_dict()
        else:
            log(f"{reference / 'verdicts.csv'} is damaged: the report is without the reference's verdicts")
    for row in verdicts:
        row["reference"] = known.get(row["claim"], "")
    context = {
        "summary": summary(tables),
        "provenance": provenance(runs),
        "incomplete": incomplete,
        "verdicts": verdicts,
        "has_reference": bool(known),
        "retrained": [row for row in verdicts if row["retrained"]],
        "answers": answers(tables),
        "parity_sentence": parity_sentence(tables["parity"]),
        "ladder": worst_by_rung(tables["parity"]),
        "power_sentence": power.sentence(tables["power"]),
        "mistakes": power.by_mistake(tables["power"]),
        "held": power.held(tables["faults"]),
        "faults": tables["faults"].fillna("").to_dict("records"),
        "dials": power.by_dial(tables["sensitivity"]),
        "presets": tables["presets"].to_dict("records"),
        "preset_sentences": presets.sentences(tables["signal"], tables["first_steps"]),
        "highlights": highlights(tables),
        "speeds": speeds(tables),
        "surroundings": surroundings(runs),
        "figures": [
            {
                "name": name,
                "caption": FIGURES[name][0],
                "data": base64.b64encode((folder / f"{name}.png").read_bytes()).decode(),
            }
            for name in figures
        ],
    }
    for kind, escapes in (("md", False), ("html", True)):
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE),
            autoescape=escapes,
            undefined=jinja2.StrictUndefined,
            finalize=None if escapes else _plain,
        )
        environment.filters["bold"] = _bold
        write_text(folder / f"audit.{kind}", environment.get_template(f"audit.{kind}.j2").render(context) + "\n")


def _plain(value: object) -> object:
    """Text that starts neither a column nor HTML in Markdown, whatever it says."""
    if not isinstance(value, str):
        return value
    return " ".join(value.split("\n")).replace("|", "\\|").replace("<", "&lt;")


def _bold(text: str) -> Markup:
    """Markdown's ``**bold**`` as HTML."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text))))
