"""Every config in `cli_configs/data/` trains on a stand-in for its dataset, with the real clients on a loopback Hub."""

from shvit_pl.cli import main
from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.runs.folder import read_summary
from tests.data import standins

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


def test_classes_that_no_training_image_has_are_named(hub, capsys):
    hub.commit("me/sparse", standins.classes("a", "b", "c", rows=[0, 1] * 10))
    assert main(fit("sparse", "--data.path=me/sparse")) == 0
    assert "no training image and can't be learnt: c" in capsys.readouterr().out
