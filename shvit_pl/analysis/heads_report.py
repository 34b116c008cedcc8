"""`shvit-pl analyze heads`: record maps, measure top-1 without heads, print, draw and write what they show."""

from collections.abc import Callable, Iterator, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps, colors, patches, patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.analysis import attention_layers, attention_maps, heads_subject, study
from shvit_pl.analysis.command import HeadsOptions
from shvit_pl.analysis.heads_findings import Findings, LayerResult, Scores
from shvit_pl.deploy import measuring
from shvit_pl.display import announce, narrow_table, new_progress, table_console
from shvit_pl.errors import UserError
from shvit_pl.files import output_folder
from shvit_pl.plots import BLUE, LEAST_ACCURACY, VERMILION, caption_height, widen, write_caption
from shvit_pl.runs.folder import FIGURES, SUMMARY

_HEADS, _LAYERS = "heads.csv", "layers.csv"
_SETTINGS = ("model_kwargs", "vectorize", "class_token", "query", "image", "batch_size")
_DIGITS = 6  # of a fraction in a table
_COMPARED = ("similarity", "without one", "one alone")
Row = dict[str, Any]


def run(options: HeadsOptions, command: Sequence[str]) -> None:
    """Measure, print what was found, and write it into the folder, with the command line `command`.

    Raises `UserError` for what does not fit together, before the folder is touched.
    """
    subject = heads_subject.open_subject(options)
    folder = output_folder(subject.options.output, _HEADS, _LAYERS, SUMMARY, f"{FIGURES}/*.png")
    trial = attention_maps.AttentionRecorder(subject)  # refuses a query that is not in the grid
    trial.add(torch.zeros(1, 3, subject.image_size, subject.image_size, device=subject.device))
    if len(trial.layers) != len(subject.layers):
        raise UserError(f"{subject.opened.name!r}: some attention layers do not give one map per image.")
    print(_describe(subject), flush=True)
    recorder, scores = attention_maps.AttentionRecorder(subject), Scores()
    passes = sum(2 * layer.heads for layer in subject.layers)
    with new_progress() as bars:
        announce(bars, step := "comparing attention maps")
        bar = bars.add_task(step, total=subject.number_of_batches(subject.compared_rows))
        for images, _ in subject.batches(subject.compared_rows):
            recorder.add(images)
            bars.advance(bar)
        announce(bars, step := "removing heads")
        bar = bars.add_task(step, total=passes * subject.number_of_batches(subject.scored_rows))
        for images, labels in subject.batches(subject.scored_rows):
            _add_scores(scores, subject, images, labels, lambda: bars.advance(bar))
    if not (recorder.images and scores.images):
        raise UserError(f"--data {subject.images.path}: none of the chosen images can be read; give other images.")
    findings = Findings(subject, recorder, scores)
    heads = [_head_row(findings, layer, head) for layer in findings.layers for head in range(layer.heads)]
    layers = [_layer_row(findings, layer) for layer in findings.layers]
    summary = {**_summary(findings, command), "layers": layers}
    figures = {f"{FIGURES}/{name}.png": figure for name, figure in draw_figures(findings).items()}
    measuring.write_results(folder, {_HEADS: heads, _LAYERS: layers}, (SUMMARY, summary), figures)
    _print_findings(findings)
    print(f"written: {folder}")


def _describe(subject: heads_subject.Subject) -> str:
    """Return what is about to be studied, in a few lines."""
    opened, options = subject.opened, subject.options
    heads = sum(layer.heads for layer in subject.layers)
    compared = "whole maps" if options.vectorize == "map" else "maps query by query"
    token = f", class token {'kept' if options.class_token == 'keep' else 'dropped'}" if subject.prefix_tokens else ""
    return (
        f"{opened.name}, {opened.weights} weights, {subject.image_size} px: {heads} heads in {len(subject.layers)} "
        f"layers\non {measuring.device_name(subject.device)}, torch {torch.__version__}\n"
        f"data: {subject.images.path}, {subject.images.data.chosen.note}\n"
        f"similarity on {len(subject.compared_rows)} of its validation images: cosine of {compared}{token}\n"
        f"heads removed on {len(subject.scored_rows)} of {subject.images.rows}: {subject.reference.sentence}"
    )


def _add_scores(
    scores: Scores,
    subject: heads_subject.Subject,
    images: torch.Tensor,
    labels: torch.Tensor,
    progress: Callable[[], object],
) -> None:
    """Add the matching predictions of a batch: images `(B, 3, S, S)`, labels `(B,)`; `progress` ends a pass."""
    model = subject.opened.model
    with torch.no_grad():
        intact = model(images)
    targets = labels if subject.reference.labels == "dataset" else intact.argmax(-1)
    for layer, logits in attention_layers.ablations(model, subject.layers, images, progress):
        # logits: (2, heads, B, classes)
        matching = (logits.argmax(-1) == targets).sum(-1).cpu()
        scores.matching[layer.name] = scores.matching.get(layer.name, 0) + matching
        effect = float((logits - intact).abs().max() / intact.abs().max())
        scores.effect[layer.name] = max(scores.effect.get(layer.name, 0.0), effect)
    scores.add(intact, targets)


def _print_findings(findings: Findings) -> None:
    """Print the layers as a table, and what they show."""
    paper = [f"paper (diff.):\n{name}" for name in _COMPARED] if findings.paper else []
    table = narrow_table((), ("layer", "heads", *_COMPARED, "important", "redundant", *paper))
    for layer in findings.layers:
        table.add_row(*_cells(findings, layer))
    table_console().print(table)
    print(findings.measured)
    print(
        "without one: the least important head; one alone: the best; both in points; similarity: mean ± SD over images"
    )
    for line in filter(None, [findings.paper_note, *findings.sentences]):
        print(fill(line, 110, subsequent_indent="  "))


def _cells(findings: Findings, layer: LayerResult) -> Iterator[str]:
    """Yield the cells of a layer, with the paper's numbers where it has any."""
    similarity, without, alone, paper = layer.similarity, layer.change_without, layer.change_alone, layer.paper
    spread = "" if layer.spread is None else f" ± {layer.spread:.3f}"
    yield from (str(layer.number), str(layer.heads), "" if similarity is None else f"{similarity:.3f}{spread}")
    yield from ("left out" if layer.left_out else f"{without:+.2f}", f"{alone:+.2f}" if layer.is_compared else "")
    yield from ("" if head is None else f"head {head + 1}" for head in (layer.important, layer.redundant))
    if paper is not None:
        yield f"{paper.similarity:.3f}" + ("" if similarity is None else f" ({similarity - paper.similarity:+.3f})")
        for ours, theirs in ((without, paper.without), (alone, paper.alone)):
            is_comparable = findings.is_paper_score and not layer.left_out
            yield f"{theirs:+.2f}" + f" ({ours - theirs:+.2f})" * is_comparable


# ---- files


def _head_row(findings: Findings, layer: LayerResult, head: int) -> Row:
    """Return a row for a head (from 0); layers and heads count from 1 in it, as the paper's do."""
    return {
        "layer": layer.number,
        "name": layer.name,
        "head": head + 1,
        "similarity": study.rounded(layer.head_similarity(head), _DIGITS),
        "score": findings.subject.reference.score,
        "intact": study.rounded(layer.intact, _DIGITS),
        "without": study.rounded(layer.without[head], _DIGITS),
        "without_change_points": study.rounded(layer.changes_without[head]),
        "alone": study.rounded(layer.alone[head], _DIGITS),
        "alone_change_points": study.rounded(layer.changes_alone[head]),
        "most": {layer.important: "important", layer.redundant: "redundant"}.get(head, ""),
    }


def _layer_row(findings: Findings, layer: LayerResult) -> Row:
    """Return a row for a layer, with the paper's numbers and ours less the paper's where it has any."""
    row: Row = {
        "layer": layer.number,
        "name": layer.name,
        "heads": layer.heads,
        "similarity": study.rounded(layer.similarity, _DIGITS),
        "similarity_sd": study.rounded(layer.spread, _DIGITS),
        "score": findings.subject.reference.score,
        "intact": study.rounded(layer.intact, _DIGITS),
        "without_one_change_points": study.rounded(layer.change_without),
        "one_alone_change_points": study.rounded(layer.change_alone),
        "most_important_head": _from_1(layer.important),
        "most_redundant_head": _from_1(layer.redundant),
        "left_out": layer.left_out,
    }
    paper = layer.paper
    if paper is None or findings.paper is None:
        return row
    for name, unit, value in (
        ("similarity", "", paper.similarity),
        ("without_one_change", "_points", paper.without),
        ("one_alone_change", "_points", paper.alone),
    ):
        comparable = not layer.left_out and (findings.is_paper_score or not unit)
        difference = study.rounded(row[name + unit] - value, _DIGITS) if comparable else None
        row |= {f"paper_{name}{unit}": value, f"{name}_less_paper{unit}": difference}
    return row | {
        "paper_most_important_head": _from_1(paper.important),
        "paper_most_redundant_head": _from_1(paper.redundant),
        "paper": findings.paper.network,
        "paper_confidence": findings.paper.confidence,
    }


def _from_1(head: int | None) -> int | None:
    return None if head is None else head + 1


def _summary(findings: Findings, command: Sequence[str]) -> dict[str, Any]:
    """Return the content of `summary.json` but for the layers; settings are what the numbers depend on."""
    subject, paper, options = findings.subject, findings.paper, findings.subject.options
    return {
        **measuring.origin(command),
        "settings": {
            "network": subject.opened.name,
            "weights": subject.opened.weights,
            "image_size": subject.image_size,
            "data": subject.images.path,
            "data_commit": subject.images.data.chosen.commit,
            "validation_images": subject.images.rows,
            "images": len(subject.compared_rows),
            "ablation_images": len(subject.scored_rows),
            "labels": subject.reference.labels,
            **{name: getattr(options, name) for name in _SETTINGS},
        },
        "environment": measuring.machine(subject.device),
        "network": {"origin": subject.opened.origin, "layers": len(subject.layers)},
        "data": {"validation": subject.images.data.chosen.note, "classes": len(subject.images.class_names)},
        "score": {
            "name": subject.reference.score,
            "measured": subject.reference.sentence,
            "intact": findings.intact,
            "blind": findings.blind,
        },
        "images_compared": findings.maps.images,
        "images_measured": findings.scores.images,
        "findings": findings.sentences,
        "paper": paper
        and {
            "network": paper.network,
            "top1": paper.top1,
            "confidence": paper.confidence,
            "not_the_same_study": findings.differences,
        },
    }


# ---- figures, as the paper's Figures 3 and 4: similarity, changes of top-1, and attention maps

_MODES = {"without": "without one head", "alone": "one head alone"}
_IMPORTANT, _REDUNDANT = VERMILION, BLUE


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """Draw all figures that there is data for, by name."""
    figures = dict[str, Figure]()
    if not all(layer.left_out for layer in findings.layers):
        figures = {"change": _draw_change(findings), "heat_maps": _draw_heat_maps(findings)}
    if any(layer.is_compared for layer in findings.layers):
        figures["similarity"] = _draw_similarity(findings)
    if findings.maps.drawn_images and any(maps.picture.numel() for maps in findings.maps.layers):
        figures["maps"] = _draw_maps(findings)
    return figures


def _captioned(findings: Findings, width: float, height: float, *sentences: str) -> Figure:
    """Return an empty figure with a caption, for which it is higher than `height`, in inches."""
    subject = findings.subject
    title = f"{subject.name}, {subject.opened.weights} weights, {subject.data}, {subject.image_size} px"
    caption = [title, *sentences, *findings.left_out]
    figure = Figure(figsize=(width, height + caption_height(caption, width)), layout="constrained")
    write_caption(figure, caption)
    return figure


# ---- curves and bars over the layers

_LEGEND: dict[str, Any] = {"loc": "outside upper center", "ncols": 2, "frameon": False, "fontsize": 8}


def _draw_similarity(findings: Findings) -> Figure:
    """Draw bars with the standard deviation over images; diamonds are the paper's."""
    what = f"mean cosine similarity of each head's map with the others of its layer, {findings.maps.images} images"
    figure, axes = _over_layers(findings, what, findings.paper_note)
    layers = [layer for layer in findings.layers if layer.is_compared]
    numbers, means = [layer.number for layer in layers], [layer.similarity or 0 for layer in layers]
    spreads = [layer.spread or 0 for layer in layers]
    errors = {"ecolor": "black", "elinewidth": 1, "capsize": 2.5}
    label = "here, ± standard deviation over images"
    axes.bar(numbers, means, yerr=spreads, color=BLUE, alpha=0.75, width=0.65, error_kw=errors, label=label)
    if findings.paper:
        paper = [layer.paper.similarity for layer in layers if layer.paper]
        axes.plot(numbers, paper, "D", color="black", markerfacecolor="white", markersize=5, label="the paper")
    axes.set_ylabel("cosine similarity of heads")
    axes.set_ylim(min(0, 1.2 * min(means)), 1.05)  # below 0 where heads are mixed, as in CaiT
    figure.legend(**_LEGEND)
    return figure


def _draw_change(findings: Findings) -> Figure:
    """Draw points of top-1 without one head, and with one alone; the best head is a line, all are dots."""
    shown = [layer for layer in findings.layers if not layer.left_out]
    several = [layer for layer in shown if layer.is_compared]
    lines = "lines: the head with the smallest loss, as in the paper; dots: all heads"
    what = lines if several else "each layer has one head; without it there is no attention"
    note = findings.paper_note if findings.is_paper_score else ""
    figure, axes = _over_layers(findings, what, findings.measured, note)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"change of {findings.subject.reference.short_score} (points)")
    looks = (("without", shown, -0.12, "o", BLUE), ("alone", several, 0.12, "s", VERMILION))
    for mode, layers, shift, marker, color in looks[: 2 if several else 1]:
        for layer in layers:
            changes = getattr(layer, f"changes_{mode}")
            axes.plot([layer.number + shift] * len(changes), changes, ".", color=color, alpha=0.45, ms=6, mew=0)
        numbers = [layer.number for layer in layers]
        best = [getattr(layer, f"change_{mode}") for layer in layers]
        axes.plot(numbers, best, f"{marker}-", color=color, ms=5, lw=1.5, label=_MODES[mode])
        if findings.paper and findings.is_paper_score:
            paper, label = [getattr(layer.paper, mode) for layer in layers], f"{_MODES[mode]}, the paper"
            axes.plot(numbers, paper, f"{marker}--", color=color, mfc="white", ms=4, lw=1, label=label)
    widen(axes, "y", 100 * LEAST_ACCURACY)  # points
    figure.legend(**_LEGEND)
    return figure


def _over_layers(findings: Findings, *sentences: str) -> tuple[Figure, Axes]:
    figure = _captioned(findings, max(6, 2.5 + 0.4 * len(findings.layers)), 4, *sentences)
    axes = figure.subplots()
    axes.set(xlabel="layer", xlim=(0.4, len(findings.layers) + 0.6), axisbelow=True)
    axes.xaxis.set_major_locator(_integers())
    axes.grid(alpha=0.25, axis="y")
    return figure, axes


def _integers() -> ticker.MaxNLocator:
    return ticker.MaxNLocator(nbins=24, integer=True, min_n_ticks=1)


# ---- the whole ablation, layer by head; both count from 1

_MOST_NUMBERS = 12 * 12  # cells that are written into


def _draw_heat_maps(findings: Findings) -> Figure:
    """Draw points of top-1 without each head, and with each one alone; the extreme heads are framed."""
    shown = [layer for layer in findings.layers if not layer.left_out]
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    modes = list(_MODES) if heads > 1 else ["without"]
    what = f"change of {findings.subject.reference.short_score} in points, {findings.measured}"
    rim = [patheffects.withStroke(linewidth=3.4, foreground="white")]  # parts a frame from any color
    height = 0.3 + len(modes) * (0.9 + 0.32 * heads)
    figure = _captioned(findings, max(6.0, 2.0 + 0.62 * layers), height, what, _marks_note(findings))
    for axes, mode in zip(figure.subplots(len(modes), 1, squeeze=False)[:, 0], modes, strict=True):
        values = np.full((heads, layers), np.nan)
        for layer in shown:
            values[: layer.heads, layer.number - 1] = getattr(layer, f"changes_{mode}")
        low, high = min(float(np.nanmin(values)), -100 * LEAST_ACCURACY), max(float(np.nanmax(values)), 0.0)
        extent = (0.5, layers + 0.5, heads + 0.5, 0.5)
        image = axes.imshow(values, "cividis", vmin=low, vmax=high, aspect="auto", interpolation="none", extent=extent)
        figure.colorbar(image, label="points", pad=0.01)
        axes.set(xlabel="layer", ylabel="head", facecolor="0.9")
        axes.set_title(_MODES[mode], fontsize=9)
        axes.tick_params(length=0, labelsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_integers())
        for layer in findings.layers:
            for head, color in ((layer.important, _IMPORTANT), (layer.redundant, _REDUNDANT)):
                if head is not None:
                    corner = (layer.number - 0.43, head + 0.6)
                    box = patches.Rectangle(corner, 0.86, 0.8, fill=False, ec=color, lw=1.6, path_effects=rim)
                    axes.add_patch(box)
        if values.size <= _MOST_NUMBERS:
            for (head, column), value in np.ndenumerate(values):
                color = "white" if value < (low + high) / 2 else "black"
                text = "" if np.isnan(value) else f"{value:.2f}"
                axes.text(column + 1, head + 1, text, ha="center", va="center", color=color, fontsize=7)
    return figure


def _marks_note(findings: Findings) -> str:
    any_marked = any((layer.important, layer.redundant) != (None, None) for layer in findings.layers)
    return "most important head of a layer framed orange, most redundant blue" if any_marked else ""


# ---- attention of one query, layer by head

_COLORS = colormaps["magma"].with_extremes(bad="0.8")  # gray where the query can't look
_CELL = 0.85  # inches
_SIDE = 0.9  # side of a map, relative to its cell


def _draw_maps(findings: Findings) -> Figure:
    """Draw columns of layers and rows of heads; over the image where one was asked for, else the mean of all."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    width, height = max(0.7 + _CELL * layers, 6.0), 0.75 + _CELL * heads
    figure = _captioned(findings, width, height, *_map_sentences(findings), _marks_note(findings))
    axes = figure.subplots()
    for layer, maps in zip(findings.layers, findings.maps.layers, strict=True):
        for head in range(layer.heads if maps.picture.numel() else 0):
            _draw_map(axes, findings, layer, head)
    axes.set(xlim=(0.5, layers + 0.5), ylim=(heads + 0.5, 0.5), aspect="equal", xlabel="layer", ylabel="head")
    axes.set(xticks=range(1, layers + 1), yticks=range(1, heads + 1))
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return figure


def _draw_map(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    """Draw a map with the query in it, framed where the head is the most important or the most redundant one."""
    maps = findings.maps
    own = maps.layers[layer.number - 1]
    picture = np.ma.masked_invalid(own.picture[head].numpy() / maps.drawn_images)
    left, top = layer.number - _SIDE / 2, head + 1 - _SIDE / 2
    extent, opacity = (left, left + _SIDE, top + _SIDE, top), None
    low = float(picture.min())
    scale = colors.Normalize(low, max(float(picture.max()), low + float(picture.mean())))  # else noise looks like a map
    if maps.drawn_image is not None:
        axes.imshow(maps.drawn_image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
        opacity = 0.85 * scale(picture).filled(0.0)  # attention hides the image
    axes.imshow(picture, cmap=_COLORS, norm=scale, alpha=opacity, interpolation="none", extent=extent)
    color = {layer.important: _IMPORTANT, layer.redundant: _REDUNDANT}.get(head)
    edge, width = color or "0.6", 2.2 if color else 0.5
    axes.add_patch(patches.Rectangle((left, top), _SIDE, _SIDE, fill=False, zorder=3, ec=edge, lw=width))
    down, right = own.query
    rim = [patheffects.withStroke(linewidth=1.4, foreground="white")]
    axes.plot(left + right * _SIDE, top + down * _SIDE, "o", ms=3.5, mfc="none", mec="black", mew=0.6, path_effects=rim)


def _map_sentences(findings: Findings) -> list[str]:
    """Return what the maps are of."""
    maps, image = findings.maps, findings.subject.options.image
    side = maps.first_grid.side if maps.first_grid else 0
    row, column = (int(place * side) for place in maps.layers[0].query)
    query = f"row {row}, column {column} of the first layer's {side}x{side} grid, from 0"
    of = f"the mean of {maps.drawn_images} images" if image is None else f"image {image}"
    windows = [str(number) for number, layer in enumerate(maps.layers, 1) if layer.middle_window]
    missing = [str(number) for number, layer in enumerate(maps.layers, 1) if not layer.picture.numel()]
    notes = {
        f"attention of one query (circle: {query}), {of}": True,
        "each map has its own color scale, over at least its mean; bright is high": True,
        "the class token is excluded from the keys": findings.subject.prefix_tokens,
        "no color: outside the query's window": any(layer.picture.isnan().any() for layer in maps.layers),
        f"layers {', '.join(windows)}: only the middle window, whose position is unknown": windows,
        f"layers {', '.join(missing)}: no map, as the tokens form no square grid": missing,
    }
    return [note for note, applies in notes.items() if applies]
