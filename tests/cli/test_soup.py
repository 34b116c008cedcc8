"""`shvit-pl soup`: averages by hand, the greedy order by hand, what is refused, and real runs as one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from shvit_pl.cli import main
from shvit_pl.fit.soup.making import average, choose_greedily, same_statistics, verdict
from shvit_pl.fit.soup.members import note_on_starts, open_members
from shvit_pl.models.open_network import open_network
from tests.cli.runs import content, files_up_to, fit
from tests.refusals import refusal, refused


def test_an_average_is_the_mean_of_each_tensor_and_counts_are_the_first_networks():
    states = [
        {"weight": torch.tensor([1.0, -2.0]), "half": torch.tensor([1.0]).half(), "batches": torch.tensor(7)},
        {"weight": torch.tensor([2.0, 4.0]), "half": torch.tensor([2.0]).half(), "batches": torch.tensor(9)},
        {"weight": torch.tensor([6.0, 1.0]), "half": torch.tensor([4.5]).half(), "batches": torch.tensor(8)},
    ]
    found = average(states)
    assert found["weight"].tolist() == [3.0, 1.0]  # (1 + 2 + 6) / 3, (-2 + 4 + 1) / 3
    assert found["half"].dtype == torch.float16
    assert found["half"].item() == 2.5
    assert found["batches"].item() == 7
    assert states[0]["weight"].tolist() == [1.0, -2.0]


def test_the_greedy_soup_takes_in_order_what_makes_it_no_worse():
    measured, tried = {(2, 0): 0.92, (2, 0, 3): 0.90, (2, 0, 1): 0.92}, []

    def measure(members):
        tried.append(tuple(members))
        return measured[tuple(members)]

    scores = [0.90, 0.70, 0.91, 0.80]
    # 2 is the best; with 0 it is better; 3 would make that worse, and 1 leaves it as good
    assert choose_greedily(scores, [2, 0, 3, 1], measure) == [2, 0, 1]
    assert tried == [(2, 0), (2, 0, 3), (2, 0, 1)]
    assert choose_greedily(scores, [2, 0, 3, 1], lambda members: 0.9) == [2]


def test_statistics_are_measured_anew_unless_they_are_the_same_in_all_networks():
    norms = [nn.BatchNorm1d(2).state_dict() for _ in range(2)]
    assert same_statistics(norms)
    norms[1]["weight"] = torch.tensor([3.0, 3.0])
    assert same_statistics(norms)  # that is learned
    norms[1]["running_var"] = torch.tensor([1.0, 1.5])
    assert not same_statistics(norms)


def test_the_better_one_of_run_and_soup_is_named():
    assert "best single run is better: runs/a has val/acc1 0.9000, and the soup 0.8000" in verdict(
        0.8, "runs/a", 0.9, 0.7, 2
    )
    assert "as good as the best single run" in verdict(0.9, "runs/a", 0.9, 0.95, 2)
    assert verdict(0.95, "runs/a", 0.9, 0.94, 2).endswith("val/acc1 0.9500, and 0.9000 of runs/a")
    assert verdict(0.95, "runs/a", 0.9, 0.95, 2).endswith("bring a single run to 0.9500, without averaging")
    assert "so the soup is that run" in verdict(0.9, "runs/a", 0.9, None, 1)


# ---- what is refused


def changed(run, folder, **settings):
    """A copy of a run whose checkpoint has other settings, by `data__image_size` and the like."""
    shutil.copytree(run, folder)
    file = folder / "checkpoints" / "best.ckpt"
    checkpoint, summary = torch.load(file, weights_only=True), json.loads((folder / "summary.json").read_text())
    for name, value in settings.items():
        section, _, key = name.partition("__")
        if section == "data":
            checkpoint["datamodule_hyper_parameters"][key] = value
        elif section == "dataset":
            summary["dataset"][key] = value
        else:
            summary[section] = value
    torch.save(checkpoint, file)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


OTHERS = {
    "classes": ({"classes": list("0123456798")}, "its classes are ... in another order"),
    "size": ({"data__image_size": 128}, "its data.image_size is 128, and that of ... 64"),
    "crop": ({"data__crop_pct": 0.9}, "its data.crop_pct is 0.9"),
    "fold": ({"data__fold": "2/5"}, "its data.fold is 2/5, and that of ... None"),
    "seed": ({"data__split_seed": 1}, "its data.split_seed is 1"),
    "path": ({"data__path": "elsewhere"}, "its data.path is 'elsewhere', and that of ... 'digits'"),
    "commit": ({"dataset__commit": "abc"}, "its dataset is of commit abc"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_runs_of_other_data_are_refused_by_name(name, short_run, tmp_path, capsys):
    settings, words = OTHERS[name]
    other = changed(short_run, tmp_path / "other", **settings)
    message = refusal(capsys, "soup", short_run, other)
    assert f"runs '{other}': " in message
    assert all(part in message for part in words.split(" ... ")), message
    assert "Leave one of them out" in message
    assert not (short_run.parent.parent / "soup").exists()


def test_settings_of_training_may_differ(short_run, tmp_path):
    other = changed(short_run, tmp_path / "other", data__augment="none", data__batch_size=8, data__train_fraction=0.5)
    assert len(open_members([str(short_run), str(other)])) == 2


def test_other_designs_tasks_and_folders_are_refused(short_run, detector_run, tmp_path, capsys):
    design = json.loads((short_run / "summary.json").read_text())["design"]
    other = changed(short_run, tmp_path / "other", design={**design, "depth": [1, 2, 3]})
    message = refusal(capsys, "soup", short_run, other)
    assert f"runs '{other}': its design is tiny, and that of {short_run} tiny, changed, so the two" in message
    assert f"runs '{detector_run}': a run of detection" in refusal(capsys, "soup", short_run, detector_run)
    assert f"runs '{short_run}': one run alone has no average" in refusal(capsys, "soup", short_run)
    twice = f"{short_run}/../{short_run.name}"
    assert f"runs '{twice}': given twice" in refusal(capsys, "soup", short_run, twice)
    assert "no such folder" in refusal(capsys, "soup", short_run, "nowhere")
    empty = shutil.copytree(short_run, tmp_path / "empty", ignore=shutil.ignore_patterns("*.ckpt"))
    assert f"'{empty}': the run has no checkpoint" in refusal(capsys, "soup", short_run, empty)
    more = shutil.copytree(short_run, tmp_path / "more")
    assert "it is one of the runs" in refusal(capsys, "soup", short_run, more, f"--output={more}")
    assert "contains other files" in refusal(capsys, "soup", short_run, more, f"--output={detector_run}")
    assert "--output ''" in refusal(capsys, "soup", short_run, more, "--output=")


def test_tensors_of_another_shape_are_refused(short_run, tmp_path):
    other = shutil.copytree(short_run, tmp_path / "other")
    file = other / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"]["model.head.l.bias"] = torch.zeros(3)
    torch.save(checkpoint, file)
    with refused("its tensors are not those of ... 1 of another shape (such as head.l.bias)"):
        open_members([str(short_run), str(other)])


def test_data_that_are_gone_are_named(short_run, tmp_path, capsys):
    runs = [changed(short_run, tmp_path / name, data__path=str(tmp_path / "gone")) for name in ("one", "two")]
    message = refusal(capsys, "soup", *runs)
    assert f"runs '{runs[0]}': its data can't be opened (data.path '{tmp_path / 'gone'}'" in message
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_runs_that_began_differently_are_pointed_out(short_run, tmp_path):
    other = shutil.copytree(short_run, tmp_path / "other")
    assert note_on_starts(open_members([str(short_run), str(other)])) is None
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump({**config, "seed_everything": 5}))
    assert "random ones of seed 0; random ones of seed 5" in note_on_starts(open_members([str(short_run), str(other)]))


# ---- real runs

TUNED = ["--trainer.max_epochs=1", "--threads=1", "--data.train_fraction=0.1", "--trainer.limit_val_batches=1.0"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["greedy", "uniform"])
def test_a_soup_is_a_run_that_is_validated_predicted_pushed_and_exported(method, run, capsys):
    for seed, ema in ((1, 0.9), (2, 0)):  # of the first, the average is evaluated
        monitor = ["--monitor=val/acc1_ema", f"--model.ema.decay={ema}"] if ema else []
        flags = [f"--model.init_from={run}", f"--seed_everything={seed}", "--run_name=tuned", *monitor]
        assert fit(*TUNED, *flags) == 0
    capsys.readouterr()
    assert main(["soup", "runs/tuned/version_0", "runs/tuned/version_1", f"--method={method}", "--threads=1"]) == 0
    printed = capsys.readouterr().out
    soup, summary = Path("runs/soup/version_0"), json.loads(Path("runs/soup/version_0/summary.json").read_text())
    members = summary["soup"]["members"]
    batches = summary["dataset"]["train_images"] // 16  # fewer than --bn_batches
    assert f"statistics of each average are measured anew, on {batches} batches" in printed
    assert all(member["metrics_bn_anew"]["val/acc1"] > 0 for member in members)
    assert f"{method} soup" in printed
    assert "single run" in printed or "so the soup is that run" in printed
    assert [member["weights"] for member in members] == ["averaged", "raw"]
    assert not list(Path("runs/soup").glob(".*"))
    if method == "uniform":
        _check_weights(soup)
    measured = [_validated(each, capsys) for each in ("runs/tuned/version_0", "runs/tuned/version_1", str(soup))]
    ending = {0: "_ema", 1: "", 2: ""}
    for number, metrics in enumerate([*(member["metrics"] for member in members), summary["metrics"]]):
        for name in ("val/acc1", "val/loss"):
            assert measured[number][f"{name}{ending[number]}"] == pytest.approx(metrics[name], abs=1e-6)
    assert main(["predict", str(soup), "--data.path=digits"]) == 0
    assert len(Path("predictions.csv").read_text().splitlines()) == 1798
    assert main(["push", str(soup), "--repo-id=user/soup", "--dry-run", "--output=hub"]) == 0
    card = Path("hub/README.md").read_text()
    assert f"a {method} [soup]" in card
    assert "| runs/tuned/version_1 |" in card
    assert main(["export", str(soup), "--format=torch-export", "--output=soup.pt2"]) == 0
    assert "a soup of runs has no training" in refusal(capsys, "fit", f"--ckpt_path={soup}/checkpoints/best.ckpt")
    assert fit(*TUNED, f"--model.init_from={soup}", "--run_name=next") == 0
    with files_up_to(1_000_000):
        message = refusal(capsys, "soup", "runs/tuned/version_0", "runs/tuned/version_1", "--output=full/soup")
    assert "--output 'full/soup': can't be written" in message
    assert not list(Path().glob("full/*"))
    assert not list(Path("full").glob(".*"))


def _validated(run, capsys):
    assert main(["validate", run, "--threads=1", "--output=found.json"]) == 0
    return json.loads(Path("found.json").read_text())["metrics"]


def _check_weights(soup):
    """The weights are the mean, and BatchNorm's variance is not: it is that of the averaged network."""
    one, two = (content(Path(f"runs/tuned/version_{number}"), "best")["state_dict"] for number in (0, 1))
    own = content(soup, "best")["state_dict"]
    assert all(key.startswith("model.") for key in own)
    for key in ("head.l.weight", "stages.1.blocks.0.mixer.m.qkv.c.weight"):
        expected = (one[f"ema.module.{key}"].double() + two[f"model.{key}"].double()) / 2
        assert torch.equal(own[f"model.{key}"], expected.float()), key
    variances = [key for key in own if key.endswith("running_var")]
    means = {key: (one[f"ema.module.{key[6:]}"] + two[key]) / 2 for key in variances}
    assert not any(torch.allclose(own[key], means[key], rtol=1e-3) for key in variances)
    opened = open_network(str(soup))
    assert torch.equal(opened.model.state_dict()["head.l.weight"], own["model.head.l.weight"])
    assert not opened.averaged
