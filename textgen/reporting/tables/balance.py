"""The balance of a run: the gain on held-out text, that without contaminated documents, and the change elsewhere.

Of examples of a task, also how much was trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from textgen.printable import printable
from textgen.reporting.formatting import MISSING, count, interval_text, number, part_of
from textgen.reporting.results import RETAINED, moments
from textgen.reporting.tables.metrics import Cells

CONTAMINATED_SHOWN = 12

_DIGITS = 3


def balance_columns(perplexity: Mapping[str, Any]) -> list[str]:
    """Titles of the columns of :func:`balance_rows`."""
    return ["documents", *moments(perplexity), *(["difference"] if perplexity.get("difference") else [])]


def balance_rows(perplexity: Mapping[str, Any]) -> list[tuple[str, Cells]]:
    """(text, cells in bits per byte) of each set of documents that was scored; empty if there is only one set."""
    rows = []
    for name, entries in _texts(perplexity):
        measured = [entries[moment] for moment in moments(perplexity) if entries.get(moment)]
        if measured:
            size = part_of(measured[-1].get("documents"), measured[-1].get("documents_available"))
            values = measured + ([entries["difference"]] if entries.get("difference") else [])
            rows.append((name, [(size, ""), *map(_bits_per_byte, values)]))
    return rows if len(rows) > 1 else []


def balance_findings(perplexity: Mapping[str, Any], contamination: Mapping[str, Any]) -> list[str]:
    """The same in words, for the console: one line about contamination, one about retained text."""
    texts = dict(_texts(perplexity))
    lines = []
    if finding := contamination_finding(contamination):
        clean = texts[_CLEAN]
        names = ["difference"] if clean.get("difference") else moments(perplexity)
        figures = _figures(clean, names)
        lines.append(f"{finding.removesuffix('.')}; without them: {figures}" if figures else finding)
    if figures := _figures(texts[_RETAINED], [*moments(perplexity), "difference"]):
        lines.append(f"{_RETAINED}: {figures} bits per byte")
    return lines


def contamination_finding(contamination: Mapping[str, Any]) -> str:
    """How many of the scored documents occur in the training text; empty if that was not looked for."""
    if not contamination:
        return ""
    found, scored = len(contamination["documents"]), contamination["held_out_documents"]
    data = contamination.get("training_data")
    training = f"a training document of {printable(data)}" if data else "a training document"
    shared = f"{contamination['ngram_words']} words in a row with {training}"
    if not found:
        return f"No scored document shares {shared}."
    if any(row["words"] < contamination["ngram_words"] for row in contamination["documents"]):
        shared = shared.replace(" in a row", " in a row, or all of fewer words,")
    finding = f"{count(found)} of {count(scored)} scored documents share{'s' if found == 1 else ''} {shared}"
    return f"{finding}, so there are no figures without them." if found == scored else f"{finding}."


def near_duplicates_finding(contamination: Mapping[str, Any]) -> str:
    """How many training documents nearly equal an earlier one, with an example; empty if they were not counted."""
    near = contamination.get("near_duplicates")
    if not near or not near["compared"]:
        return ""
    compared = part_of(near["compared"], contamination["training_documents"])
    if not near["found"]:
        return f"Of {compared} training documents compared, none nearly equals another."
    example = near["examples"][0]
    return (
        f"Of {compared} training documents compared, {count(near['found'])} nearly "
        f"{'equals' if near['found'] == 1 else 'equal'} an earlier one, such as {example['id']} and "
        f"{example['earlier_id']} (estimated similarity {number(example['similarity'])})."
    )


def mask_findings(mask: Mapping[str, Any]) -> list[str]:
    """How much of the training data was trained on, and which examples lost something; empty without examples."""
    if not mask:
        return []
    share = number(100 * mask["targets"] / max(1, mask["tokens"]), 1)
    lines = [f"Trained on: {count(mask['targets'])} of {count(mask['tokens'])} training tokens ({share} %)."]
    if cut := mask["cut"]:
        without = mask["without_prompt"]
        filled = f", {count(without)} of which have a prompt that fills the block" if without else ""
        lines.append(
            f"{part_of(cut, mask['examples'])} examples do not fit into one block{filled}: what comes after is trained "
            "on without the beginning."
        )
    if mask["untargeted"]:
        lines.append(f"{part_of(mask['untargeted'], mask['examples'])} examples have nothing that is trained on.")
    if mask["left_out"]:
        rows = "row was" if mask["left_out"] == 1 else "rows were"
        lines.append(f"{count(mask['left_out'])} {rows} left out, without a completion or an answer.")
    return lines


def contaminated_rows(contamination: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The :data:`CONTAMINATED_SHOWN` documents with the largest share of shared words."""
    rows: Sequence[Mapping[str, Any]] = contamination.get("documents", [])
    return list(rows[:CONTAMINATED_SHOWN])


_HELD_OUT, _CLEAN, _RETAINED = "held-out text", "without contaminated documents", "text to retain"


def _texts(perplexity: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, moment or ``"difference"`` → entry) of each set of documents."""
    keys = [*moments(perplexity), "difference"]
    return [
        (_HELD_OUT, {key: perplexity.get(key) for key in keys}),
        (_CLEAN, {key: (perplexity.get(key) or {}).get("uncontaminated") for key in keys}),
        (_RETAINED, perplexity.get(RETAINED, {})),
    ]


def _figures(entries: Mapping[str, Any], names: Sequence[str]) -> str:
    """``before 1.983, after 1.879, difference −0.104 (−0.141 to −0.065)``; empty without entries."""
    parts = []
    for name in names:
        if entries.get(name):
            value, interval = _bits_per_byte(entries[name])
            parts.append(f"{name} {value}" + (f" ({interval})" if name == "difference" and interval else ""))
    return ", ".join(parts)


def _bits_per_byte(entry: Mapping[str, Any]) -> tuple[str, str]:
    value = number(entry.get("bits_per_byte"), _DIGITS)
    return value, interval_text(entry.get("bits_per_byte_interval"), _DIGITS) if value != MISSING else ""
