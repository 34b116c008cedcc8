"""What is pushed works where only timm is installed, or transformers too."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from datasets import load_dataset
from PIL import Image

from shvit_pl.cli import main
from shvit_pl.data.opening import _DIGITS
from tests.hub.runs import network, quick_fit, with_design

pytestmark = pytest.mark.slow
OURS = ("shvit_pl", "lightning", "datasets", "torchmetrics", "jsonargparse")
CLOSE = {"rtol": 0, "atol": 1e-5}

ON_TENSORS = """
import json, timm, torch
repos, image = sys.argv[1:-1], torch.load(sys.argv[-1])
models = [timm.create_model(f"hf-hub:{repo}", pretrained=True).eval() for repo in repos]
with torch.no_grad():
    print(json.dumps([{"logits": model(image).tolist(), "labels": model.pretrained_cfg["label_names"],
                       "kind": type(model).__module__} for model in models]))
"""
ON_FILES = """
import json, timm, torch
from PIL import Image
from transformers import pipeline
model = timm.create_model(f"hf-hub:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
classify, answers = pipeline("image-classification", model=sys.argv[1]), {}
for file in sys.argv[2:]:
    with torch.inference_mode():
        top = model(transform(Image.open(file).convert("RGB"))[None]).softmax(dim=-1)[0].max(dim=0)
    in_timm = {"label": model.pretrained_cfg["label_names"][top.indices], "score": top.values.item()}
    answers[file] = [in_timm, classify(file, top_k=10)[0]]
print(json.dumps(answers))
"""


@pytest.fixture
def elsewhere(hub):
    """Runs a program where some packages can't be imported; returns what it prints as JSON on its last line."""

    def run(program, *args, without=(*OURS, "transformers")):
        start = f"import sys; sys.modules.update(dict.fromkeys({without}))\n"
        command = [sys.executable, "-c", start + program, *map(str, args)]
        done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def images(tmp_path):
    """A tensor of images in a file, and its path."""
    torch.save(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7)), tmp_path / "images.pt")
    return tmp_path / "images.pt"


def push(run, repo, *flags):
    assert main(["push", str(run), "--repo-id", repo, *flags]) == 0


def logits(run, images, averaged=False):
    with torch.no_grad():
        found = network(run / "checkpoints/best.ckpt", averaged)(torch.load(images))
    assert (found[0] - found[1]).abs().min() > 1e-3  # it tells images apart
    return found


def test_s1_to_s4_and_a_dual_head_load_in_plain_timm_with_the_same_logits(run, hub, tmp_path, images, elsewhere):
    designs = {name: {"name": name} for name in ("s1", "s2", "s3", "s4")} | {"dual": {"name": "s1", "distilled": True}}
    runs = {key: with_design(run, tmp_path / key, **design) for key, design in designs.items()}
    pushes = [*((key, False) for key in runs), ("dual", True)]
    for key, averaged in pushes:
        push(runs[key], f"user/{key}{averaged}", "--weights", "ema" if averaged else "raw")
    answers = elsewhere(ON_TENSORS, *(f"user/{key}{averaged}" for key, averaged in pushes), images)
    for (key, averaged), answer in zip(pushes, answers, strict=True):
        assert answer["kind"] == "timm.models.shvit"
        assert answer["labels"] == [str(digit) for digit in range(10)]
        torch.testing.assert_close(torch.tensor(answer["logits"]), logits(runs[key], images, averaged), **CLOSE)
    assert not torch.allclose(logits(runs["dual"], images), logits(runs["dual"], images, True), atol=1e-1)


def test_a_run_on_the_digits_names_the_same_ones_in_timm_and_in_transformers(tmp_path, elsewhere):
    """From `fit` to a stranger's machine."""
    flags = ("--model.design.name=s1", "--trainer.limit_train_batches=50", "--model.optim.lr=0.02")
    run, folder = quick_fit(tmp_path / "runs", *flags), digits(tmp_path / "pictures")
    push(run, "user/digits")
    expected = predicted(run, folder)
    assert_same(elsewhere(ON_FILES, "user/digits", *expected, without=OURS), expected)


def test_other_designs_load_the_same_way_once_this_package_is_imported(run, hub, tmp_path, images, elsewhere):
    other = with_design(run, tmp_path / "run", name="tiny", patch_size=8, stage1="attention", distilled=True)
    push(other, "user/other", "--weights", "raw")
    model = timm.create_model("hf-hub:user/other", pretrained=True).eval()
    assert type(model).__module__ == "shvit_pl.models.shvit"
    with torch.no_grad():
        torch.testing.assert_close(model(torch.load(images)), logits(other, images), **CLOSE)
    push(run, "user/digits")
    expected = predicted(run, digits(tmp_path / "pictures"))
    assert_same(elsewhere("import shvit_pl.models" + ON_FILES, "user/digits", *expected, without=()), expected)


def predicted(run, folder):
    """Label and probability by path, as `shvit-pl predict` gives them for the images in a folder."""
    checkpoint = run / "checkpoints/best.ckpt"
    assert main(["predict", f"--ckpt_path={checkpoint}", f"--data.path={folder}", "--data.num_workers=0"]) == 0
    with open("predictions.csv", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert len({row["label"] for row in rows.values()}) > 1
    return {str(folder / name): (row["label"], float(row["probability"])) for name, row in sorted(rows.items())}


def assert_same(answers, expected):
    """The same probabilities, and the same labels but for classes that are equally likely up to rounding."""
    assert answers.keys() == expected.keys()
    given = [(file, answer) for file in expected for answer in answers[file]]
    for file, answer in given:
        assert abs(answer["score"] - expected[file][1]) < 1e-2, file
    others = [file for file, answer in given if answer["label"] != expected[file][0]]
    assert len(others) <= len(given) / 20, others


def digits(folder):
    """Forty of the embedded digits as files of their own."""
    folder.mkdir()
    rows = load_dataset("parquet", data_files=str(_DIGITS), split="train").select(range(40))
    for number, row in enumerate(rows):
        image = row["image"].convert("RGB")
        sizes = (image.size, (64, 64), (150, 100), (90, 131))
        image.resize(sizes[number % 4], Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder
