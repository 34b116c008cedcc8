"""Names of the user's are text wherever they are shown: no markup, no mathematics, no HTML, no table, no formula."""

import csv
import json
import os
import re
import shlex
import shutil
import warnings
from html import unescape
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from shvit_pl.callbacks.console import show_table
from shvit_pl.callbacks.run_figures import draw_confusion, draw_inputs
from shvit_pl.cli import main
from shvit_pl.display import in_markdown, narrow_table, say, write_table
from shvit_pl.errors import first_names
from shvit_pl.hub.card import _metadata
from shvit_pl.hub.pages import as_code
from shvit_pl.plots import as_png
from shvit_pl.runs.folder import FinishedRun, read_summary
from shvit_pl.sweep.definition import Point
from shvit_pl.sweep.engine.reading import RunStatus, Status
from shvit_pl.sweep.watch import LiveTable
from tests.cli.runs import fit
from tests.refusals import refusal

NAMES = [
    "[/b]", "[bold]x", "$a$ b$^", "<script>alert(1)</script>", "a | b", ":smile:", "{{ 7 * 7 }}", "`x`", "=1+1", "-x",
    "../x", "_private", "# y: 'z' \"", "two\nlines", "[a](b) *c* &lt;", "very long " * 30,
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output of a run on classes with such names, in a folder with such a name."""
    root = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with open("set [old] $x$ a: b # c.tsv", "w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["file_name", "label"])
            for number in range(4 * len(NAMES)):
                PILImage.new("RGB", (8, 8), (number, 0, 0)).save(f"{number}.png")
                writer.writerow([f"{number}.png", NAMES[number % len(NAMES)]])
        flags = [
            "--data.path=set [old] $x$ a: b # c.tsv",
            "--run_name=run [old]",
            "--data.batch_size=8",
            "--data.validation_fraction=0.3",
        ]
        assert fit(*flags, "--trainer.max_epochs=1") == 0
        yield root / "runs" / "run [old]" / "version_0"


def test_the_runs_table_shows_them_as_they_are(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained.parents[2])
    monkeypatch.setenv("COLUMNS", "200")
    assert read_summary(trained)["classes"] == sorted(NAMES)
    assert {path.name for path in (trained / "figures").iterdir()} == {
        "by_class.csv",
        "confusion_matrix.png",
        "curves.png",
        "inputs.png",
        "reliability.png",
    }
    assert main(["validate", f"--ckpt_path={trained}"]) == 0
    assert "set [old] $x$ a: b # c.tsv" in capsys.readouterr().out
    assert main(["benchmark", str(trained), "--mode=eager", "--seconds=0.01", "--blocks=5", "--output=b"]) == 0
    assert "run [old]" in capsys.readouterr().out


def test_a_terminal_obeys_no_name(capsys):
    """Tables, lines, warnings and refusals."""
    name, shown = "\x1b[31mred\nlines\x9b", r"\x1b[31mred\nlines\x9b"
    for plain in (True, False):
        show_table("run", {"data": name}, plain)
    say(name)
    table = narrow_table(["name"], [])
    table.add_row(name)
    write_table(table)
    with LiveTable(Path(), plain=True) as live:
        point, goals = Point("k", name, {}, 0), {"val/acc1": "max"}
        live.show(Status(1, (), (), (), None, goals))
        live.show(Status(1, (), (RunStatus(point, 1.0, name, error=name),), (), None, goals))
    printed = capsys.readouterr().out
    assert printed.count(shown) == 2 + 2 + 4
    assert not set(printed) & {"\x1b", "\x9b"}
    assert first_names([name, "b"]) == f"{shown}, b"
    assert shown in refusal(capsys, "fit", f"--data.path={name}")
    assert shown in refusal(capsys, "fit", f"--run_name={name}")
    assert r"\x1b[31mred" in refusal(capsys, "designs", "\x1b[31mred")


@pytest.mark.parametrize(("terminal", "plain", "rules"), [(False, False, 0), (True, True, 0), (True, False, 1)])
def test_tables_have_rules_on_a_terminal_only(terminal, plain, rules, capsys, monkeypatch):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    table = narrow_table(["name"], ["px"])
    table.add_row("tiny", "64")
    write_table(table, plain)
    printed = capsys.readouterr().out
    assert "tiny" in printed
    assert sum("\u2500" in line for line in printed.splitlines()) == rules


def test_signs_without_a_glyph_are_drawn_in_silence(recwarn):
    figure = Figure()
    figure.text(0, 0, "\u732b\u72ac")
    as_png(figure)
    assert not recwarn.list


def test_the_card_neither_renders_nor_breaks(trained, monkeypatch):
    monkeypatch.chdir(trained.parents[2])
    assert main(["push", str(trained), "--repo_id=user/name", "--dry_run", "--output=card"]) == 0
    card = (trained.parents[2] / "card" / "README.md").read_text()
    assert "{{ 7 * 7 }}" in card
    assert "49" not in card.partition("Classes:")[2].partition("\n")[0]
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["model-index"][0]["results"][0]["dataset"]["name"] == "set [old] $x$ a: b # c.tsv"
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<script>" not in html
    line = next(line for line in html.splitlines() if line.startswith("<p>Classes:"))
    shown = re.findall("<code>(.*?)</code>", line)
    assert list(map(unescape, shown)) == [" ".join(name.split()) for name in sorted(NAMES)]
    saved = json.loads((trained.parents[2] / "card" / "config.json").read_text())
    assert saved["label_names"] == sorted(NAMES)
    command = body.partition("```bash\nshvit-pl fit")[2].partition("```")[0]
    assert "--data.path=set [old] $x$ a: b # c.tsv" in shlex.split(command.replace("\\\n", ""))


def test_tables_and_exports_hold_them_unchanged(trained, monkeypatch, capsys, caplog):
    monkeypatch.chdir(trained.parents[2])
    os.mkdir("others")
    shutil.copy("0.png", os.fsdecode(b"others/\xff.png"))
    Path(os.fsdecode(b"others/\xfe.png")).write_bytes(b"broken")
    flags = [f"--ckpt_path={trained}", "--data.path=others", "--output=p.csv"]
    assert main(["predict", *flags]) == 0
    with open("p.csv", newline="", encoding="utf-8") as file:
        broken, row = csv.DictReader(file)
    assert "others/\\udcfe.png: not an image" in caplog.text
    assert [Path(each["file"]).name for each in (broken, row)] == ["\\udcfe.png", "\\udcff.png"]
    assert (broken["label"], row["label"] in NAMES) == ("", True)
    assert set(json.loads(row["top5"])) <= set(NAMES)
    assert main(["export", str(trained), "--format=torch-export", "--image_size=64", "--output=m [1].pt2"]) == 0
    extra = {"metadata.json": ""}
    torch.export.load("m [1].pt2", extra_files=extra)
    assert json.loads(json.loads(extra["metadata.json"])["labels"]) == sorted(NAMES)
    exec(capsys.readouterr().out.rsplit("use it: ")[-1], {})


def test_tensorboard_holds_them_unchanged(trained):
    events = EventAccumulator(str(trained), {"tensors": 0}).Reload()
    settings = {}
    for tag in ("_hparams_/session_start_info",):
        data = events.SummaryMetadata(tag).plugin_data.content
        settings |= HParamsPluginData.FromString(data).session_start_info.hparams
    assert settings["data.path"].string_value == "set [old] $x$ a: b # c.tsv"
    assert events.Tags()["images"] == ["inputs", "confusion_matrix", "reliability", "curves"]


def test_what_is_no_text_is_refused_or_printed_as_python_shows_it(capsys, monkeypatch):
    assert r"argument '--data.path=\udcff': not UTF-8" in refusal(capsys, "predict", "--data.path=\udcff")
    monkeypatch.setattr("sys.stdout", TextIOWrapper(terminal := BytesIO(), encoding="ascii"))
    main(["--version"])
    print("é\udcff", flush=True)
    assert terminal.getvalue().splitlines()[1] == rb"\xe9\udcff"


@pytest.mark.parametrize(
    "name", [*NAMES, "> quote", "- item", "+ item", "# head", "~~gone~~", "***", "<b>x</b>", "a\\", "snake_case_name"]
)
def test_markdown_shows_text_as_it_is(name):
    line, markdown = " ".join(name.split()), MarkdownIt("gfm-like", {"linkify": False, "html": True})
    for text, tag in ((in_markdown(name), "li"), (in_markdown(name), "td")):
        source = f"- {text}\n" if tag == "li" else f"| h |\n|---|\n| {text} |\n"
        assert unescape(re.search(f"<{tag}>(.*)</{tag}>", markdown.render(source))[1]) == line
    assert in_markdown("snake_case_name, 1.5 (±0.2), a-b") == "snake_case_name, 1.5 (±0.2), a-b"
    assert unescape(re.search("<p><code>(.*)</code></p>", markdown.render(as_code(name)))[1]) == line


def test_figures_have_room_beside_long_names():
    matrix = torch.eye(len(NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that the axes collapsed
        for figure in (draw_confusion(matrix, NAMES), draw_inputs(torch.rand(8, 3, 8, 8), torch.arange(8, 16), NAMES)):
            assert as_png(figure)
            width, height = figure.axes[0].get_window_extent().size
            assert min(width, height) > 0.1 * figure.dpi * min(figure.get_size_inches())
    labels = [label.get_text() for label in draw_confusion(matrix, NAMES).axes[0].get_yticklabels()]
    assert labels[:9] == [*NAMES[:3], "<script>alert(1)</scrip…", *NAMES[4:9]]


def test_the_card_names_data_in_its_metadata_as_it_is(trained):
    run = FinishedRun.open(trained)
    for name in ("a: b", "# x", "'", '"', "{{ x }}", "- y", "a\n---\nb", "🐈", "null"):
        run.summary["dataset"]["path"] = name
        metadata = yaml.safe_load(_metadata(run, "name", True).to_yaml())
        assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == name
