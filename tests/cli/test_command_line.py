"""The command itself: its help, its laziness, its configs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shvit_pl.analysis.command import STUDIES
from shvit_pl.cli import COMMANDS, main
from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.designs.design import NAMED
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, only_run, printed

CONFIGS = sorted(path for path in shipped_configs().rglob("*.yaml") if path.parent.name != "sweeps")
DESIGNS = [path for path in CONFIGS if path.parent == shipped_configs()]  # the others: test_configs.py, test_recipes.py
LIGHT = ("fit", "predict", "cache-teacher", "sweep", "report", "benchmark", "export", "analyze", "soup")


def imported_by(code):
    """Names of the modules that a fresh Python has imported after running `code`."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()


def test_torch_is_not_imported_before_it_is_needed():
    """Neither by the package, nor by any command's help, nor for mistakes in its flags, nor by a report."""
    helps = [["--help"], ["designs"], *([name, "--help"] for name in ("push", *LIGHT))]
    helps += [["analyze", study, "--help"] for study in STUDIES]
    mistakes = [["push", "run", "--repo-id=digits"], ["export", "s1", "--format=no"], ["benchmark", "s1", "--mode=no"]]
    without_extras = [["export", "s1", "--format=onnx"], ["benchmark", "s1", "--runtime=onnx"]]
    code = "from shvit_pl.cli import main"
    code += "".join(f"\nassert main({command}) == 0" for command in helps)
    code += "\nfrom shvit_pl.command_line import parser\nparser.find_spec = lambda name: None"
    code += "".join(f"\nassert main({command}) == 2" for command in [*mistakes, *without_extras])
    for modules, heavy in ((imported_by(code), {"numpy"}), (imported_by("import shvit_pl.sweep.finish"), set())):
        assert "shvit_pl" in modules
        assert not {"torch", "lightning", "timm", "datasets", *heavy} & set(modules)


def test_help_lists_every_command_in_one_line(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for command in COMMANDS:
        assert sum(line.strip().startswith(f"{command} ") for line in printed.splitlines()) == 1


def test_designs_prints_all_names_and_the_cube(capsys):
    assert main(["designs"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMED)
    assert "241.3" in printed
    assert main(["designs", "--cube=s1"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{patch} x {stages} x" in printed for patch in (4, 16) for stages in (3, 4))


def test_the_flags_of_the_contract_exist(capsys):
    assert main(["fit", "--help"]) == 0
    printed = capsys.readouterr().out
    sections = {
        "model.design.": "name patch_size stages stage1 mixers embed_dim depth partial_ratio qk_dim num_heads",
        "model.": "design.drop_path design.distilled init_from",
        "model.optim.": "name lr weight_decay warmup_epochs",
        "data.": "path name revision image_column label_column image_size batch_size train_fraction",
        "": "seed_everything trainer.max_epochs",
    }
    flags = [section + flag for section, names in sections.items() for flag in names.split()]
    assert [flag for flag in flags if f"--{flag} " not in printed] == []
    assert not re.search(r"Union|Literal|Optional|Interval|PositiveInt|type:", printed)
    words = " ".join(printed.split())
    for shown in (
        "(true or false or auto, default: auto)",
        "(float from 0 to 1, default: 0.666667)",
        "(int from 1, default: null)",
    ):
        assert shown in words


def test_configs_are_layered_and_printed(tmp_path, capsys):
    first = "model: {design: {name: tiny}, distill: {teacher: test_resnet, tau: 3.0}}\ndata: {batch_size: 7}\n"
    (tmp_path / "first.yaml").write_text(first)
    (tmp_path / "soft.yaml").write_text("model: {distill: {objective: soft, tau: 2.0}}")
    flags = ["--data.batch_size=9", "--model.distill.alpha=0.7"]
    config = printed(capsys, "--config=s1.yaml", "--config=first.yaml", "--config=soft.yaml", *flags)
    assert config["model"]["design"]["name"] == "tiny"
    assert (config["data"]["batch_size"], config["data"]["image_size"]) == (9, 128)
    distill = {"teacher": "test_resnet", "alpha": 0.7, "objective": "soft", "tau": 2.0, "heads": None}
    assert config["model"]["distill"].items() >= distill.items()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_short_and_begins_with_its_command(config):
    lines = config.read_text().splitlines()
    assert len(lines) <= (45 if "recipes" in config.parts else 25)
    assert lines[0].startswith("# shvit-pl fit --config ")
    assert str(config.relative_to(shipped_configs())) in lines[0]
    if config in DESIGNS:
        comment = " ".join(line for line in lines if line.startswith("#"))
        assert all(word in comment for word in ("val/acc1", "cores", "min"))


@pytest.mark.parametrize(
    "config",
    [pytest.param(path, marks=[pytest.mark.slow] if path.name in ("s2.yaml", "s3.yaml") else []) for path in DESIGNS],
    ids=lambda path: path.name,
)
def test_every_config_trains_as_it_is_for_a_step(config, tmp_path):
    few = ["--data.batch_size=2", "--data.num_workers=0", "--trainer.max_steps=1", "--trainer.limit_val_batches=1"]
    assert {"s1.yaml", "s2.yaml", "s3.yaml", "s4.yaml"} <= {path.name for path in DESIGNS}
    assert main(["fit", f"--config={config}", *few, "--trainer.enable_checkpointing=false"]) == 0
    (summary,) = (tmp_path / "runs").rglob("summary.json")
    assert read_summary(summary.parent)["steps_trained"] == 1


def test_a_cell_of_the_cube_trains_at_the_configs_size(tmp_path):
    """The largest; that all cells can learn: tests/models/test_matrix.py."""
    flags = ["--model.design.patch_size=4", "--model.design.stages=4", "--model.design.stage1=attention"]
    few = ["--data.batch_size=2", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]
    assert fit(*flags, *few, "--data.image_size=128", "--trainer.limit_val_batches=1") == 0
    design = read_summary(only_run(tmp_path))["design"]
    assert (design["patch_size"], len(design["embed_dim"]), design["mixers"][0]) == (4, 4, "single_head")


def test_python_dash_m_runs_the_command():
    command = [sys.executable, "-m", "shvit_pl.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("shvit-pl ")


@pytest.mark.slow
def test_a_built_wheel_carries_the_configs_and_runs_in_an_empty_folder(tmp_path):
    source = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "wheel", source], check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    (tmp_path / "empty").mkdir()
    script = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import shvit_pl; print(shvit_pl.__file__);"
    script += "from shvit_pl.cli import main; sys.exit(main(sys.argv[1:]))"
    quick = ["--data.batch_size=2", "--trainer.max_steps=1", "--trainer.limit_val_batches=2"]
    command = [sys.executable, "-c", script, "fit", "--config", "s1.yaml", "--model.design.name=tiny", *quick]
    done = subprocess.run(command, cwd=tmp_path / "empty", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout
    assert (tmp_path / "empty" / "runs" / "tiny" / "version_0" / "summary.json").is_file()
