"""What was measured beyond accuracy: rows of a table, and of corruptions a figure and a CSV."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shvit_pl.data.config import CORRUPTIONS
from shvit_pl.files import replacing, write_rows, write_whole
from shvit_pl.plots import BLUE, GRAY, GREEN, MARKERS, ORANGE, PURPLE, as_png
from shvit_pl.runs.folder import FIGURES

_KINDS = {
    "noise": (CORRUPTIONS[:3], BLUE),
    "blur": (CORRUPTIONS[3:7], ORANGE),
    "weather": (CORRUPTIONS[7:11], GREEN),
    "digital": (CORRUPTIONS[11:], PURPLE),
}


def result_rows(measured: dict[str, Any]) -> dict[str, str]:
    """Return the rows of a table, by the content of `robustness.json`."""
    rows: dict[str, str] = {}
    if (corruptions := measured.get("corruptions")) is not None:
        rows["not corrupted"] = f"top-1 {corruptions['clean']:.4f} on {corruptions['images']} images"
        rows["strength"] = "".join(f"{strength:<8}" for strength in range(1, 6)) + "mean"
        for name, row in corruptions["accuracy"].items():
            rows[name] = "".join(f"{value:.4f}  " for value in (*row, sum(row) / len(row))).rstrip()
        rows["mean of all"] = f"top-1 {corruptions['mean']:.4f}"
    if (views := measured.get("tta")) is not None:
        for name, row in views.items():
            rows[name] = f"top-1 {row['acc1']:.4f} by the mean probabilities of {row['views']} views"
            rows[name] += f" ({row['plain']:.4f} by one)"
    for path, row in measured.get("out_of_distribution", {}).items():
        rows[f"{row['images']} images of {path}"] = "; ".join(
            f"AUROC {row[key]['auroc']:.4f}, FPR at 95 % TPR {row[key]['fpr95']:.4f} by {name}"
            for key, name in (("max_softmax", "maximum softmax"), ("energy", "energy"))
        )
    if (found := measured.get("calibration")) is not None:
        rows["temperature"] = f"{found['temperature']:.4f}"
        rows["calibration error"] = f"{found['ece_before']:.4f}, and {found['ece_after']:.4f} divided by it"
        rows["cross-entropy"] = f"{found['nll_before']:.4f}, and {found['nll_after']:.4f} divided by it"
        rows["after"] = f"of each half of the {found['images']} images, by the temperature of the other"
    return rows


def write_corruptions(folder: Path, results: dict[str, Any]) -> None:
    """Write `figures/robustness.png` and `figures/corruptions.csv` into a run's folder."""
    write_whole(folder / FIGURES / "robustness.png", as_png(draw_robustness(results), 120))
    rows: list[dict[str, Any]] = [{"corruption": "none", **dict.fromkeys("12345", ""), "mean": results["clean"]}]
    for name, row in results["accuracy"].items():
        rows.append({"corruption": name, **dict(zip("12345", row, strict=True)), "mean": sum(row) / len(row)})
    with replacing(folder / FIGURES / "corruptions.csv") as partial:
        write_rows(partial, rows)


def draw_robustness(results: dict[str, Any]) -> Figure:
    """Draw accuracy over the strength for each kind of corruption, and the mean of each corruption."""
    clean, accuracy = results["clean"], results["accuracy"]
    names = [name for name in CORRUPTIONS if name in accuracy]
    figure = Figure(figsize=(8, max(2.6, 0.9 + 0.2 * len(names))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    kinds = {kind: [name for name in members if name in names] for kind, (members, _) in _KINDS.items()}
    for marker, (kind, members) in zip(MARKERS, kinds.items(), strict=False):
        if members:
            means = [sum(accuracy[name][place] for name in members) / len(members) for place in range(5)]
            left.plot(range(6), [clean, *means], marker=marker, markersize=4, color=_KINDS[kind][1], label=kind)
    left.set(xlabel="strength (0: as they are)", ylabel="top-1 accuracy (fraction)", ylim=(0, 1.02))
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    colors = [next(color for members, color in _KINDS.values() if name in members) for name in names]
    means = [sum(accuracy[name]) / 5 for name in names]
    right.barh(range(len(names)), means, color=colors, height=0.7)
    for place, value in enumerate(means):
        inside = value > 0.15
        place_of_text = 0.01 if inside else value + 0.01
        right.text(place_of_text, place, f"{value:.3f}", va="center", fontsize=7, color="white" if inside else "black")
    right.axvline(clean, color=GRAY, linestyle="--", linewidth=1)
    right.set_title(f"mean over strengths; dashed: not corrupted ({clean:.3f})", fontsize=9)
    right.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    right.set(xlabel="top-1 accuracy (fraction)", xlim=(0, 1.02))
    right.set_xticks([0, 0.25, 0.5, 0.75, 1])
    right.invert_yaxis()
    return figure
