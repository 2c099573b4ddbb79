"""The page of families: a table of those that were walled, what was refused, and which methods are not defined where."""

from collections import defaultdict
from collections.abc import Callable

ALONE = (
    "What reads the layer there does not ask for a token's length (LayerNorm), so gradient and activation are at right angles, "
    "and their product, summed over channels, says nothing:"
)

HEADS: dict[str, Callable[[dict], str]] = {
    "family": lambda row: row["family"],
    "member, px": lambda row: f"{row['name']}, {row['size']}",
    "wall at": lambda row: f"{row['kind']}, {row['layer']}",
    "unseen cells": lambda row: row["cells"],
    "unseen pixels": lambda row: str(row["unseen"]),
    "all its side; pixels beside it": lambda row: (
        f"{yes(row['side_exact'])}; {row['left_over']}" if row["kind"] == "trunk" else "halo"
    ),
    "blind, proof (s)": lambda row: f"{row['blind_s']:.1f}, {row['proof_s']:.1f}",
    "proved": lambda row: yes(not row["problems"]),
    "bits equal": lambda row: yes(row["bits_equal"]),
    "gradient 0": lambda row: yes(row["gradient_zero"]),
    "model as before": lambda row: yes(row["model_as_before"]),
    "HiResCAM, Layer-CAM 0": lambda row: yes(row["hirescam_zero"] and row["layercam_zero"]),
    "Grad-CAM 0": lambda row: yes(row["gradcam_zero"]),
    "grad-cam, captum apart": lambda row: f"{row['grad_cam_apart']:.0e}, {row['captum_apart']:.0e}",
    "methods refused": lambda row: str(sum(map(len, row["refuses"].values()))),
}


def yes(value: bool) -> str:
    return "yes" if value else "no"


def page(rows: list[dict], images: int, seed: int) -> str:
    """The table, what was refused, and which methods are not defined where."""
    stood = [row for row in rows if "refused" not in row]
    lines = [list(HEADS), ["---"] * len(HEADS), *([cell(row) for cell in HEADS.values()] for row in stood)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    refused = [f"* {row['name']}, {row['kind'] or 'no'} wall: {row['refused']}" for row in rows if "refused" in row]
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in stood:
        for reason, names in row["refuses"].items():
            reasons[reason, ", ".join(names)].append(f"{row['name']} ({row['kind']})")
    alone = [
        f"* {', '.join(row['rounding_alone'])} on {row['name']} at {row['layer']}"
        for row in stood
        if row["rounding_alone"]
    ]
    told = [f"* {reason}: {names}. On {', '.join(nets)}." for (reason, names), nets in reasons.items()]
    return "\n".join(
        [
            "# Families behind walls",
            "",
            f"Untrained members, {images} images, seed {seed}; made by `python -m experiments.families`. "
            "Times are of one processor. A head wall's unseen pixels are fewer than its cells' share: a seen cell looks "
            "past its own place (the halo).",
            "",
            table,
            *(["", "## What cannot be walled", "", *refused] if refused else []),
            *(["", "## Maps that are rounding alone", "", ALONE, "", *alone] if alone else []),
            *(["", "## Methods that are not defined", "", *told] if told else []),
            "",
        ]
    )
