"""The model card: metadata by which the Hub files it, and a text that says what happened and no more."""

import json
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from shvit_pl.cli import main
from shvit_pl.hub.card import write_card
from shvit_pl.hub.target import Target
from shvit_pl.runs.folder import FinishedRun
from tests.fractions import assert_fractions
from tests.hub.runs import edit, with_design, with_summary_of

REPO = "user/digits"


def card_of(run, weights=None):
    """The card of a run, next to the run's own figures."""
    write_card(FinishedRun.open(run, weights), run, Target(REPO))
    return ModelCard.load(run / "README.md")


def of_model(run, **changes):
    """Change settings of the model in a run's config.yaml."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    edit(run / "config.yaml", model={**config["model"], **changes})


def test_the_metadata_and_a_dataset_and_weights_of_the_hub_are_linked(own):
    of_model(own, init_from="weights/first")  # a file's, which a repo might be called too
    data, summary = card_of(own).data, json.loads((own / "summary.json").read_text())
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-classification", "mit")
    assert {"image-classification", "timm", "shvit"} <= set(data.tags)
    assert (data.metrics, data.model_name) == (["accuracy"], "digits")
    assert data.datasets is data.base_model is None
    metrics = [round(summary["metrics"][f"val/{name}"], 5) for name in ("acc1", "acc5")]
    assert [round(result.metric_value, 5) for result in data.eval_results] == metrics
    dataset = {**summary["dataset"], "path": "somebody/pets", "commit": "0" * 40}
    edit(own / "summary.json", dataset=dataset, init_repo="timm/shvit_s1.in1k")
    card = card_of(own)
    assert (card.data.datasets, card.data.base_model) == (["somebody/pets"], "timm/shvit_s1.in1k")
    assert card.data.to_dict()["base_model_relation"] == "finetune"
    assert card.data.eval_results[0].dataset_revision == "0" * 40
    assert "](https://huggingface.co/datasets/somebody/pets)" in card.text
    assert "fine-tuned from [`timm/shvit_s1.in1k`]" in card.text


@pytest.mark.parametrize(("limit", "is_part"), [(None, False), (1.0, False), (1, True), (0.5, True)])
def test_a_part_of_the_validation_images_is_called_so(limit, is_part, own):
    config = yaml.safe_load((own / "config.yaml").read_text())
    edit(own / "config.yaml", trainer={**config["trainer"], "limit_val_batches": limit})
    text = card_of(own).text
    assert ("top-1** on some of its" in text, "Measured on part of the" in text) == (is_part, is_part)


def test_an_evaluation_after_too_few_steps_is_called_so(own):
    assert "too few steps" not in card_of(own).text
    edit(own / "summary.json", few_steps=["BatchNorm's statistics are of 4 batches"])
    assert "\n\nEvaluated after too few steps: BatchNorm's statistics are of 4 batches.\n" in card_of(own).text


@pytest.mark.parametrize("push", ["--push_to user/digits --push_public true", "--push_to=user/digits"])
def test_whoever_repeats_the_command_does_not_push(push, own):
    edit(own / "summary.json", command=f"shvit-pl fit --config s1.yaml {push} --data.batch_size 16")
    assert "shvit-pl fit --config s1.yaml --data.batch_size 16\n" in card_of(own).text


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("regnety_160.deit_in1k", "timm states its license as apache-2.0"),
        ("timm:regnety_160.deit_in1k", "timm states its license as apache-2.0"),
        ("timm/regnety_160.deit_in1k", "timm states its license as apache-2.0"),
        ("somebody/teacher", "its page on the Hub states its license"),
        ("runs/teacher/version_0", "it was trained with shvit-pl"),
    ],
)
def test_a_teacher_is_named_with_its_license(teacher, words, run, tmp_path):
    run = with_summary_of(run, tmp_path / "run", name="tiny", distilled=True)
    edit(run / "summary.json", teacher=f"{teacher}, 1.0 M parameters; top-1 0.9300 on 256 validation images")
    of_model(run, distill={"teacher": teacher, "objective": "hard", "alpha": 0.5, "tau": 1.0, "weights": None})
    text = card_of(run).text
    for part in ("## Teacher", f"`{teacher}`", words, "top-1 0.9300", "their mean as a single classifier"):
        assert part in text


def test_without_teacher_sweep_or_figures_the_card_does_not_speak_of_them(own):
    shutil.rmtree(own / "figures")
    edit(own / "summary.json", command="shvit-pl fit")  # its folder is called so
    text = card_of(own).text
    assert not [word for word in ("teacher", "sweep", "figures/") if word in text]


OURS = ("import shvit_pl", "The paper has no such model")
S2 = (
    "the paper's SHViT-S2",
    "0.752 on ImageNet-1k",
    "ImageNet-1k, 224 pixels, 300 epochs",
    "The network is the paper's",
)
S3 = ("s3, changed", "was changed from the paper's", "0.774 on ImageNet-1k")


@pytest.mark.parametrize(
    ("design", "words", "is_timms"),
    [({"name": "s2"}, S2, True), ({"name": "s3", "partial_ratio": 0.4}, S3, False), ({"name": "tiny"}, OURS, False)],
    ids=str,
)
def test_the_papers_model_stands_beside_and_networks_of_our_own_need_this_package(
    design, words, is_timms, run, tmp_path
):
    card = card_of(with_summary_of(run, tmp_path / "run", **design))
    assert all(part in card.text for part in words)
    assert_fractions(card.text)
    assert card.text.count("import shvit_pl.models  # registers the architecture") == (0 if is_timms else 2)
    assert ("transformers" in card.data.tags) == is_timms


def test_results_are_of_the_weights_that_are_pushed_and_of_a_run_without_validation_there_are_none(own):
    metrics = {"val/acc1": 0.91, "val/acc5": 0.99, "val/loss": 0.5}
    averaged = {"val/acc1_ema": 0.92, "val/acc5_ema": 0.98, "val/loss_ema": 0.25}
    edit(own / "summary.json", metrics=metrics | averaged)
    raw, ema = card_of(own, "raw"), card_of(own, "ema")
    assert (raw.data.eval_results[0].metric_value, ema.data.eval_results[0].metric_value) == (0.91, 0.92)
    assert "| raw weights (in this repository) | 0.9100 | 0.9900 | 0.5000 |" in raw.text
    assert "| averaged weights (EMA) (not in this repository) | 0.9200 | 0.9800 | 0.2500 |" in raw.text
    assert "| averaged weights (EMA) (in this repository) | 0.9200 | 0.9800 | 0.2500 |" in ema.text
    del metrics["val/acc5"]  # of five classes or fewer
    edit(own / "summary.json", metrics=metrics, wall_seconds=1.2)
    text = card_of(own).text
    assert "| raw weights (in this repository) | 0.9100 | 0.5000 |" in text
    assert "| validation | top-1 | cross-entropy |" in text
    assert ", 1 second |" in text
    (own / "checkpoints/best.ckpt").unlink()
    edit(own / "summary.json", metrics={}, last_metrics={}, best_epoch=None)
    card = card_of(own)
    assert "not validated" in card.text
    assert card.data.eval_results is None


def test_names_of_classes_and_data_break_no_table_and_run_no_html(own):
    names = ["a|b", "<script>alert(1)</script>", *map(str, range(8))]
    dataset = json.loads((own / "summary.json").read_text())["dataset"]
    edit(own / "summary.json", classes=names, dataset={**dataset, "path": "<b>|pets"})
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card_of(own).text)
    assert "<script>" not in html
    assert "<code>&lt;script&gt;alert(1)&lt;/script&gt;</code>" in html
    assert "<b>" not in html
    assert "<td>&lt;b&gt;|pets, 1437 training and 360 validation images" in html


def test_the_code_on_the_card_runs(run, hub, tmp_path):
    """As it stands there, for an image of digits."""
    run = with_design(run, tmp_path / "run", name="s1")
    assert main(["push", str(run), f"--repo-id={REPO}"]) == 0
    text = hub.repo(REPO).files["README.md"].decode()
    Image.new("RGB", (80, 60), (200, 30, 90)).save("image.jpg")
    program = re.search(r"With timm:\n\n```python\n(.*?)```", text, re.S)[1]
    printed = []
    exec(program, {"print": lambda *words: printed.append(words)})
    assert len(printed) == 5
    assert {name for name, _ in printed} <= {str(digit) for digit in range(10)}


def test_what_was_measured_beyond_accuracy_is_on_the_card_of_these_weights_alone(own):
    row = [0.9, 0.8, 0.7, 0.6, 0.5]
    steps = json.loads((own / "summary.json").read_text())["steps_trained"]
    told = {"auroc": 0.9123, "fpr95": 0.3456}
    content = {
        "of": {"checkpoint": "best.ckpt", "averaged": False, "steps": steps},
        "corruptions": {"images": 360, "clean": 0.95, "accuracy": {"motion_blur": row}, "mean": 0.7},
        "tta": {"five_crop": {"views": 5, "acc1": 0.9555, "plain": 0.95}},
        "out_of_distribution": {"noise": {"images": 9, "max_softmax": told, "energy": {**told, "auroc": 0.9321}}},
        "calibration": {
            **{"temperature": 1.25, "ece_before": 0.0444, "ece_after": 0.0111, "images": 360},
            **{"nll_before": 0.3, "nll_after": 0.2},
        },
    }
    (own / "robustness.json").write_text(json.dumps(content))
    text = card_of(own, "raw").text
    assert "| motion blur | 0.9000 | 0.8000 | 0.7000 | 0.6000 | 0.5000 | 0.7000 |" in text
    for part in (
        "5 views",
        "0.9555",
        "AUROC 0.9123",
        "0.9321 by the energy",
        "temperature **1.2500**",
        "0.0444 before",
    ):
        assert part in text, part
    assert "not calibrated without the temperature above" in text
    for weights, changed in (("ema", steps), ("raw", steps + 1)):
        (own / "robustness.json").write_text(json.dumps({**content, "of": {**content["of"], "steps": changed}}))
        other = card_of(own, weights).text
        assert "Beyond accuracy" not in other
        assert "above" not in other.partition("## Limits")[2]
