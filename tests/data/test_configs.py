"""Every config in `cli_configs/data/` trains on a stand-in for its dataset, with the real clients on a loopback Hub."""

import pytest

from shvit_pl.config_files import shipped_configs
from shvit_pl.runs import read_summary
from tests.data import standins
from tests.hub_server import HubServer

REPOS = {
    "uoft-cs/cifar10": standins.cifar10,
    "uoft-cs/cifar100": standins.cifar100,
    "johnowhitaker/imagenette2-320": standins.imagenette,
    "ethz/food101": standins.food101,
    "timm/oxford-iiit-pet": standins.oxford_pets,
    "ILSVRC/imagenet-1k": standins.imagenet1k,
}
HELD_OUT = "no validation split: 20% of 'train' held out (seed 0)"
VALIDATION = "validation on the split 'validation'"
EXPECTED = {  # classes, training images, validation images, where they come from
    "digits": (tuple(map(str, range(10))), 1437, 360, HELD_OUT),
    "cifar10": (standins.CIFAR10, 80, 20, HELD_OUT),
    "cifar100": (standins.CIFAR100, 160, 40, HELD_OUT),
    "imagenette": (standins.IMAGENETTE, 96, 24, HELD_OUT),
    "food101": (standins.FOOD101, 101, 101, VALIDATION),
    "oxford_pets": (standins.PETS, 88, 23, HELD_OUT),
    "imagenet1k": (standins.IMAGENET, 1000, 7, f"{VALIDATION}; the split 'test' has no labels and is left out"),
}
ONE_STEP = [
    "--config=s1.yaml",
    "--model.design.name=tiny",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_checkpointing=false",
]


@pytest.fixture
def hub():
    with HubServer() as hub:
        yield hub


def fit(name, *flags):
    return ["fit", *ONE_STEP, f"--run_name={name}", *flags]


def summary(folder, name):
    return read_summary(folder / "runs" / name / "version_0")


def test_every_config_trains_on_a_stand_in_for_its_dataset(hub, tmp_path):
    for repo, files in REPOS.items():
        hub.commit(repo, files(), gated=repo == "ILSVRC/imagenet-1k")
    hub.repo("ILSVRC/imagenet-1k", "datasets").members.add("user")
    names = sorted(path.stem for path in (shipped_configs() / "data").glob("*.yaml"))
    answers = hub.run([fit(name, f"--config=data/{name}.yaml") for name in names], tmp_path)
    found = {}
    for name, answer in zip(names, answers, strict=True):
        assert answer.code == 0, answer.err
        run = summary(tmp_path, name)
        data = run["dataset"]
        found[name] = (tuple(run["classes"]), data["train_images"], data["validation_images"], data["validation"])
        assert run["steps_trained"] == 1
    assert found == EXPECTED


def test_a_config_says_its_command_and_only_what_is_its_own():
    for path in (shipped_configs() / "data").glob("*.yaml"):
        lines = path.read_text().splitlines()
        assert lines[0] == f"# shvit-pl fit --config s1.yaml --config data/{path.name}"
        assert len(lines) < 25


def test_the_hub_gives_revisions_and_streams_and_its_refusals_are_one_line_with_the_next_step(hub, tmp_path):
    old = hub.commit("me/birds", standins.classes("a", "b"))
    hub.commit("me/birds", standins.classes("a", "b", "c"), branch="trial")
    hub.commit("me/birds", standins.classes("a", "b", "c", "d"))
    versions = {"old": [f"--data.revision={old}"], "trial": ["--data.revision=trial"], "newest": []}
    hub.commit("ethz/food101", standins.food101())
    hub.commit("me/sparse", standins.classes("a", "b", "c", rows=[0, 1] * 10))
    others = {
        "streamed": ["--config=data/food101.yaml", "--data.streaming=true", "--data.steps_per_epoch=2"],
        "sparse": ["--data.path=me/sparse"],
    }
    hub.commit("me/closed", standins.classes("a", "b"), gated=True)
    hub.commit("me/script", {"script.py": b"raise SystemExit('never run')", "README.md": b""})
    hub.commit("me/pets", standins.classes("a", "b"))
    hub.commit("me/empty", {"README.md": b""})
    hub.commit("me/several", standins.configurations("small", "large"))
    hub.commit("me/broken", {"train.parquet": b"PAR1, but not for long"})
    mistakes = {
        ("me/closed",): ["data.path 'me/closed'", "gated", f"{hub.url}/datasets/me/closed", "HF_TOKEN"],
        ("me/script",): ["data.path 'me/script'", "script.py", "not run", "parquet"],
        ("me/pest",): ["data.path 'me/pest'", "no such dataset on the Hub", "Give a folder"],
        ("mypets",): ["data.path 'mypets'", "no such folder or file here", "Give a folder"],
        ("my pets",): ["data.path 'my pets'", "no such folder or file here", "Give a folder"],
        ("me/pets", "--data.revision=v2"): ["data.revision 'v2'", "no such branch, tag or commit"],
        ("me/pets", "--data.name=small"): ["data.name 'small'", "there are default"],
        ("me/empty",): ["data.path 'me/empty'", "contain any data files"],
        ("me/several",): ["data.name", "several configurations (small, large)"],
        ("me/several", "--data.name=smal"): ["data.name 'smal'", "did you mean 'small'"],
        ("me/broken",): ["data.path 'me/broken'", "can't be opened"],
    }
    given = [fit(name, "--data.path=me/birds", *flags) for name, flags in versions.items()]
    given += [fit(name, *flags) for name, flags in others.items()]
    refused = [fit("none", f"--data.path={path}", *flags) for path, *flags in mistakes]
    answers = hub.run(given + refused, tmp_path, token=hub.account("stranger"))
    assert [answer.code for answer in answers] == [0] * len(given) + [2] * len(refused)
    assert [len(summary(tmp_path, name)["classes"]) for name in versions] == [2, 3, 4]
    assert summary(tmp_path, "streamed")["classes"] == list(standins.FOOD101)
    assert "no training image and can't be learnt: c" in answers[len(given) - 1].out
    for answer, said in zip(answers[len(given) :], mistakes.values(), strict=True):
        (error,) = [line for line in answer.err.splitlines() if "error:" in line]
        assert "Traceback" not in answer.err
        assert answer.err.rstrip().endswith(error)
        for text in said:
            assert text in error
    assert not (tmp_path / "runs" / "none").exists()
