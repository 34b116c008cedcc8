"""The sweeps that come with the package: each of their rows is a run that `fit` accepts, on digits and on ImageNet."""

from itertools import product

import pytest
import yaml

from shvit_pl.command_line.config_files import find_config, shipped_configs
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.published import paper_row
from tests.cli.runs import printed
from tests.designs.test_published import summary

FILES = sorted((shipped_configs() / "sweeps").glob("*.yaml"))
RECIPE = "--config=recipes/imagenet_300e.yaml"
FLAGS = {"distillation": ("--model.distill.teacher=runs/teacher/version_0",)}  # that its command needs
PAPER = {
    "macro_paper": ["Fig. 2: (a)", "Fig. 2: (b)", "Fig. 2: (b')", "Fig. 2: (b'')"],
    "mixer": ["Table 2: SHViT-S3, also Table 6, row 4", "Table 6, row 1: SHSA to MHSA", "Table 6, row 2: SHSA to none"],
    "partial_ratio": [
        "Table 6, row 3: ratio 1/8",
        "Table 2: SHViT-S3, also Table 6, row 4",
        "Table 6, row 5: ratio 1/2",
    ],
    "single_head": ["Table 2: SHViT-S2", "Fig. 6: (b) full", "Fig. 6: (a) bottleneck"],
}


def sweep(name):
    return yaml.safe_load((shipped_configs() / "sweeps" / f"{name}.yaml").read_text())


def choices(content):
    """The flags of every row of a list, of every cell of a grid, and of both ends of a search's ranges."""
    if "list" in content:
        return list(content["list"].values())
    if "grid" in content:
        return [dict(zip(content["grid"], values, strict=True)) for values in product(*content["grid"].values())]
    ends = {flag: (space["low"], space["high"]) for flag, space in content["search"]["space"].items()}
    return [{flag: pair[end] for flag, pair in ends.items()} for end in (0, 1)]


def run(content, row, *layers, capsys):
    """The whole config of a row's run."""
    bases = [f"--config={base}" for base in content["base"]]
    flags = [f"--{flag}={'null' if value is None else value}" for flag, value in row.items()]
    return printed(capsys, *bases, *layers, *flags)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_says_its_command_and_names_configs_that_exist(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 25
    assert lines[0].startswith(f"# shvit-pl sweep --config sweeps/{path.name}")
    content = sweep(path.stem)
    assert {"base", "seeds", "objective"} <= set(content)
    assert len(set(content) & {"grid", "list", "search"}) == 1
    for base in content["base"]:
        assert find_config(base)


@pytest.mark.parametrize("layers", [(), (RECIPE,)], ids=["digits", "imagenet"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fit_accepts_every_row(path, layers, capsys):
    content = sweep(path.stem)
    assert choices(content)
    for row in choices(content):
        config = run(content, row, *layers, *FLAGS.get(path.stem, ()), capsys=capsys)
        assert resolve_design(**config["model"]["design"])
        assert config["data"]["path"] == ("ILSVRC/imagenet-1k" if layers else "digits")


@pytest.mark.parametrize("name", PAPER)
def test_the_rows_are_the_papers(name, capsys):
    content = sweep(name)
    found = []
    for row in choices(content):
        config = run(content, row, RECIPE, capsys=capsys)
        size = config["data"]["image_size"]
        found.append(paper_row(summary(image_size=size, **config["model"]["design"])).source)
    assert found == PAPER[name]


@pytest.mark.parametrize("layers", [(), (RECIPE,)], ids=["digits", "imagenet"])
def test_the_macro_studys_rows_have_the_papers_sizes_whatever_is_layered(layers, capsys):
    content = sweep("macro_paper")
    sizes = [run(content, row, *layers, capsys=capsys)["data"]["image_size"] for row in content["list"].values()]
    assert sizes == [224, 224, 256, 224]


@pytest.mark.parametrize("taught", [FLAGS["distillation"], ("--config=distill/regnety_160.yaml",)])
def test_one_row_has_no_teacher_and_the_others_have_the_one_that_is_given(taught, capsys):
    content = sweep("distillation")
    none, hard, soft = (
        run(content, row, *taught, capsys=capsys)["model"]["distill"] for row in content["list"].values()
    )
    assert none["teacher"] is None
    assert hard["teacher"] == soft["teacher"] in ("runs/teacher/version_0", "regnety_160.deit_in1k")
    assert (hard["objective"], soft["objective"], soft["tau"]) == ("hard", "soft", 3)
