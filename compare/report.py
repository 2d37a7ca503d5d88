"""``audit.md`` and the self-contained ``audit.html``, from the tables alone."""

import base64
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from compare.answers import answers
from compare.load import Runs
from compare.plots import FIGURES
from compare.verdicts import Verdict
from protocol.files import write_text

HERE = Path(__file__).parent


def summary(tables: dict[str, pd.DataFrame]) -> str:
    """One sentence: how many claims got which verdict."""
    counts = tables["verdicts"]["verdict"].value_counts()
    parts = [f"{counts[verdict.value]} {verdict.value}" for verdict in Verdict if verdict.value in counts]
    return f"Of {len(tables['verdicts'])} claims: {', '.join(parts)}."


def ladder(parity: pd.DataFrame) -> list[dict[str, Any]]:
    """Each rung and run with its worst quantity, by share of the tolerance."""
    if parity.empty:
        return []
    found = []
    exact = parity["tolerance"] == 0
    share = (parity["difference"] / parity["tolerance"]).where(
        ~exact, parity["difference"].where(parity["difference"] == 0, float("inf"))
    )
    table = parity.assign(share=share)
    for (rung, left, variant, preset), group in table.groupby(["rung", "left", "variant", "preset"], sort=False):
        worst = group.loc[group["share"].idxmax()]
        found.append(
            {
                "rung": rung,
                "left": left,
                "variant": variant,
                "preset": f"deviations of {preset}",
                "quantities": len(group),
                "quantity": worst["quantity"],
                "difference": f"{worst['difference']:.1e}",
                "share": f"{worst['share']:.2f}",
                "where": worst["where"],
            }
        )
    return found


def parity_sentence(parity: pd.DataFrame) -> str:
    failing = parity[~parity["agrees"].astype(bool)] if not parity.empty else parity
    if failing.empty:
        return f"All {len(parity)} quantities agree within their tolerances."
    first = failing.iloc[0]
    return (
        f"{len(failing)} of {len(parity)} quantities do not agree; the first: {first['quantity']} of {first['left']} on rung "
        f"{first['rung']}, {first['difference']:.2e} against {first['tolerance']:.2e}, at {first['where']}."
    )


def facts(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Sentences with this run's figures."""
    lines = []
    for row in tables["colour_bar"].to_dict("records"):
        lines.append(
            f"{row['backend']} recognises {row['accuracy']:.1%} of the photographs' test crops; from colour statistics alone "
            f"a linear classifier recognises {row['linear']:.1%} and a forest {row['forest']:.1%}."
        )
    for row in tables["scaling"][tables["scaling"]["source"] == "measured"].to_dict("records"):
        lines.append(
            f"{row['backend']}, {row['placement']}, {row['variant']}, batch {row['batch']}, {int(row['threads'])} thread(s) a device: "
            f"{row['images_per_second']:.1f} images/s measured, {row['days']:.0f} days for the paper's training."
        )
    for row in tables["scaling"][tables["scaling"]["source"] == "modelled"].to_dict("records"):
        lines.append(
            f"Two GTX 580 have to sustain {row['images_per_second']:.0f} images/s to train in {row['days']:.0f} days (modelled)."
        )
    for batch, group in tables["stages"].groupby("batch"):
        lines.append(f"Pipeline stages, batch {batch}: the slower does {group['share'].max():.1%} of the compute time.")
    return lines


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
        f"From {len(runs.finished)} runs at commit {', '.join(commits)}. Photographs stand in for ImageNet: directions seen on "
        "them are small-scale evidence and can't contradict a claim about ImageNet."
    )


def write(
    folder: Path, tables: dict[str, pd.DataFrame], runs: Runs, figures: list[str], reference: Path | None
) -> None:
    """Write both reports; ``reference`` is the committed audit, shown in a column of its own."""
    verdicts = tables["verdicts"].astype(object).where(tables["verdicts"].notna(), "").to_dict("records")
    known = {}
    if reference is not None and (reference / "verdicts.csv").is_file():
        known = pd.read_csv(reference / "verdicts.csv").set_index("claim")["verdict"].to_dict()
    for row in verdicts:
        row["reference"] = known.get(row["claim"], "")
    context = {
        "summary": summary(tables),
        "provenance": provenance(runs),
        "verdicts": verdicts,
        "has_reference": bool(known),
        "answers": answers(tables),
        "parity_sentence": parity_sentence(tables["parity"]),
        "ladder": ladder(tables["parity"]),
        "facts": facts(tables),
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
            loader=jinja2.FileSystemLoader(HERE), autoescape=escapes, undefined=jinja2.StrictUndefined
        )
        environment.filters["bold"] = _bold
        write_text(folder / f"audit.{kind}", environment.get_template(f"audit.{kind}.j2").render(context) + "\n")


def _bold(text: str) -> Markup:
    """Markdown's ``**bold**`` as HTML."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text))))
