"""`validate` and `predict` with weights alone: from a folder as timm saves it, as from a Hub repo."""

import csv
import re
import shutil
from dataclasses import replace

import pytest
import timm
from safetensors.torch import save_file
from timm.models import save_for_hf

from shvit_pl.cli import main
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import NAMED
from shvit_pl.models import create_model, load_weights
from shvit_pl.models.open_network import read_pretrained
from shvit_pl.runs.folder import CONFIG
from tests.cli.saved import DATA, NAMES, save


def accuracy(printed):
    return float(re.search(r"val/acc1 +([\d.]+)", printed)[1])


def test_a_folder_says_its_design_and_classes(tmp_path):
    save(tmp_path / "saved", patch_size=8, stages=4, stage1="attention")
    found = read_pretrained(str(tmp_path / "saved"))
    design = resolve_design("tiny", patch_size=8, stages=4, stage1="attention")
    assert replace(found.design, image_size=design.image_size) == design
    assert found.class_names == found.network.class_names == NAMES
    assert found.network.data == {"image_size": 128, "crop_pct": 0.875}


def test_a_paper_model_of_timm_is_known_by_its_name(tmp_path):
    model = timm.create_model("shvit_s1")
    save_for_hf(model, tmp_path / "s1", safe_serialization=True)
    found = read_pretrained(str(tmp_path / "s1"))
    assert found.design == NAMED["s1"]
    assert found.class_names is None  # the data's, then
    network = found.network
    assert (network.class_names[0], network.descriptions[0]) == ("tench, Tinca tinca", "n01440764, tench, Tinca tinca")
    assert load_weights(create_model("s1"), tmp_path / "s1").loaded == len(model.state_dict())


def test_a_run_and_what_is_saved_of_it_are_measured_alike(run, tmp_path, capsys):
    assert main(["validate", f"--ckpt_path={run}/checkpoints/best.ckpt", "--data.num_workers=0"]) == 0
    of_run = capsys.readouterr().out
    model = create_model("tiny", num_classes=10)
    load_weights(model, run)
    names = [str(digit) for digit in range(10)]
    cfg = {"input_size": (3, 64, 64)}
    saved = tmp_path / "saved"
    save_for_hf(model, saved, model_config={"label_names": names, "pretrained_cfg": cfg}, safe_serialization=True)
    shutil.copy(run / CONFIG, saved)  # so that it is known which images it has not seen
    assert main(["validate", f"--model.init_from={saved}", "--data.num_workers=0"]) == 0
    of_weights = capsys.readouterr().out
    assert accuracy(of_weights) == accuracy(of_run) > 0.2
    assert of_weights.splitlines()[0] == of_run.splitlines()[0]  # the same split
    assert f"weights only, no run is resumed: {len(model.state_dict())} tensors from {saved}" in of_weights


def test_predictions_have_the_names_that_came_with_the_weights(tmp_path, image_folder):
    save(tmp_path / "saved")
    assert main(["predict", f"--model.init_from={tmp_path / 'saved'}", f"--data.path={image_folder}"]) == 0
    with open("predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["label"] for row in rows} <= set(NAMES)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.init_from=."], ["a folder without weights", "run folder"]),
        (["--model.init_from=timm:deit_tiny_patch16_224"], ["weights of a deit_tiny_patch16_224, not of a SHViT"]),
        (["--model.init_from=hf-hub:user/name"], ["hf-hub:user/name", "no such model repo in the local cache"]),
        (["--ckpt_path=hf-hub:user/name"], ["no training state", "--model.init_from hf-hub:user/name"]),
        ([], ["--ckpt_path", "--model.init_from hf-hub:USER/NAME"]),
        (["--model.init_from=resnet"], ["weights of a test_resnet, not of a SHViT"]),
        (["--model.init_from=few.safetensors", "--model.design.name=tiny"], ["7 classes in the source, 10 here"]),
    ],
)
def test_what_can_not_be_had_is_one_line(flags, words, refused, tmp_path):
    save_for_hf(timm.create_model("test_resnet"), tmp_path / "resnet", safe_serialization=True)
    save_file(create_model("tiny", num_classes=7).state_dict(), tmp_path / "few.safetensors")
    refused([*DATA, *flags], *words, command="validate")


def test_averaged_weights_of_a_repo_are_refused(refused):
    flags = ["--model.init_from=hf-hub:user/name", "--model.use_ema=true", "--model.design.name=tiny"]
    refused(flags, "a Hub repo has no averaged weights. Leave out model.use_ema")
