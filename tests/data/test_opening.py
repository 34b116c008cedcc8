"""Opening datasets from wherever they are: folders, files, and the Hub with its versions, cache and refusals."""

import shutil
import socket

import datasets
import pytest
from datasets import ClassLabel, Image, Value
from huggingface_hub import close_session, constants

from shvit_pl import hub_errors
from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit
from tests.data import pictures, standins
from tests.data.pictures import images, open_dataset, parquet, ready, saved, source
from tests.hub_server import HubServer, in_process
from tests.refusals import refused


def rows(count):
    return pictures.rows([number % 2 for number in range(count)])


SPLITS = {"train": rows(12), "validation": rows(4)}
IMAGE_FOLDER = images(*(f"{name}/{'ab'[n % 2]}/{n}.png" for name, split in SPLITS.items() for n in range(len(split))))


def arrow_files(folder):
    for split, data in SPLITS.items():
        data.save_to_disk(folder / "written")
        (file,) = (folder / "written").glob("*.arrow")
        file.rename(folder / f"{split}.arrow")
        shutil.rmtree(folder / "written")
    return folder


def named_classes(folder):
    """In the README; the rows have numbers."""
    header = "dataset_info:\n  features:\n  - {name: image, dtype: image}\n"
    header += "  - name: label\n    dtype: {class_label: {names: {'0': a, '1': b}}}\n"
    (folder / "README.md").write_text(f"---\n{header}---\n")
    return parquet(**{name: split.cast_column("label", Value("int64")) for name, split in SPLITS.items()})(folder)


@pytest.mark.parametrize(
    "write",
    [parquet(**SPLITS), saved(**SPLITS), IMAGE_FOLDER, arrow_files, named_classes],
    ids=["parquet", "saved", "images", "arrow", "named classes"],
)
def test_a_folder_with_two_splits(write, tmp_path):
    splits = open_dataset(str(write(tmp_path)))
    assert {name: len(split) for name, split in splits.items()} == {"train": 12, "validation": 4}
    for split in splits.values():
        assert isinstance(split.features["image"], Image)
        assert split.features["label"] == ClassLabel(names=["a", "b"])


def test_one_file_of_parquet_or_arrow_is_the_training_split(tmp_path):
    rows(12).to_parquet(tmp_path / "rows.parquet")
    rows(12).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for path in (tmp_path / "rows.parquet", arrow, tmp_path / "saved"):
        assert {name: len(split) for name, split in open_dataset(str(path)).items()} == {"train": 12}


def test_a_configuration_of_a_folder_is_chosen_by_name(tmp_path):
    counts = {"small": 4, "large": 12}
    for name, count in counts.items():
        (tmp_path / name).mkdir()
        rows(count).to_parquet(tmp_path / name / "train.parquet")
    header = "".join(f"- {{config_name: {name}, data_dir: {name}}}\n" for name in counts)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    assert {name: len(open_dataset(str(tmp_path), name)["train"]) for name in counts} == counts


def test_a_changed_folder_is_read_anew(tmp_path):
    IMAGE_FOLDER(tmp_path)
    assert len(open_dataset(str(tmp_path))["train"]) == 12
    (tmp_path / "train" / "a" / "0.png").unlink()
    assert len(open_dataset(str(tmp_path))["train"]) == 11


def test_a_proxy_is_used_and_a_hub_that_says_nothing_is_out_of_reach(monkeypatch):
    reachable = hub_errors.hub_reachable.__wrapped__
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_errors, "_REACHABLE_TIMEOUT_S", 0.2)
    with monkeypatch.context() as patch:
        patch.setenv("no_proxy", "")
        with HubServer() as proxy:
            patch.setenv("http_proxy", proxy.url)
            close_session()  # the client reads the environment for each
            assert reachable()
        assert not reachable()
    close_session()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not reachable()


LABELS = {"train": [0, 1] * 10, "test": [0, 1] * 4}
THREE = {"train": [0, 1, 2] * 10, "validation": [0, 1, 2]}
STREAM = {"streaming": True, "steps_per_epoch": 1}


@pytest.fixture
def birds(hub):
    """The commits of a dataset of two classes, whose branch `three` has a third one."""
    readme = {"README.md": b"---\nlicense: mit\n---\n"}
    first = hub.commit("user/birds", standins.splits_of("a", "b", **LABELS) | readme)
    return {
        "main": first,
        "three": hub.commit("user/birds", standins.splits_of("a", "b", "c", **THREE), branch="three"),
    }


def train(*flags):
    """A run of one step, `birds`."""
    one_step = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--data.batch_size=8", "--run_name=birds"]
    return fit(*one_step, "--data.path=user/birds", *flags)


def opened(path="user/birds", **settings):
    return ready(path=path, batch_size=8, **settings)


def offline(hub):
    """As a new process in which the Hub does not answer any more."""
    hub.stop()
    in_process.forget()


# ---- versions of a dataset of the Hub, with the real clients over HTTP


def test_a_run_records_the_commit_that_it_saw_and_goes_on_with_it_alone(birds, hub, tmp_path, capfd):
    assert train() == 0
    run = read_summary(tmp_path / "runs" / "birds" / "version_0")
    assert run["classes"] == ["a", "b"]
    assert (run["dataset"]["train_images"], run["dataset"]["validation_images"]) == (16, 4)
    assert (run["dataset"]["revision"], run["dataset"]["commit"]) == (None, birds["main"])
    assert f"user/birds at {birds['main'][:7]}" in capfd.readouterr().out
    checkpoint = f"--ckpt_path={tmp_path}/runs/birds/version_0/checkpoints/last.ckpt"
    goes_on = ["--extend_to=2", "--allow_changes=true", checkpoint]
    now = hub.commit("user/birds", standins.splits_of("a", "b", train=[1, 0] * 10))
    assert train(*goes_on) == 2
    *before, message = capfd.readouterr().err.splitlines()
    assert not any(word in line for line in before for word in ("error:", "Traceback"))
    assert f"the run saw the commit {birds['main']}, and now it is {now}" in message
    assert f"--data.revision {birds['main']} --allow_changes true" in message
    assert train(*goes_on, f"--data.revision={birds['main']}") == 0
    assert main(["validate", checkpoint, "--data.path=user/birds"]) == 0


@pytest.mark.parametrize("settings", [{}, STREAM], ids=["stored", "streamed"])
def test_a_branch_is_recorded_as_its_commit(settings, birds, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # after streaming
    data = opened(revision="three", **settings)
    assert (data.chosen.commit, data.class_names) == (birds["three"], ["a", "b", "c"])
    assert data.state_dict() == {"commit": birds["three"]}
    assert len(next(iter(data.train_dataloader()))["label"]) == 8


@pytest.mark.parametrize("streaming", [False, True])
def test_from_the_cache_comes_the_version_that_was_asked_for(streaming, birds, hub):
    for revision in ("three", None):
        source("user/birds", revision=revision)
    hub.commit("user/birds", standins.splits_of("a", "b", "c", "d", **LABELS))  # the branch moves
    assert source("user/birds", revision=birds["main"]).commit == birds["main"]
    offline(hub)
    for revision, commit, classes, rows in (
        (None, birds["main"], ["a", "b"], 20),
        ("three", birds["three"], ["a", "b", "c"], 30),
        (birds["three"], birds["three"], ["a", "b", "c"], 30),
    ):
        found = source("user/birds", revision=revision, streaming=streaming)
        assert (found.commit, found.splits["train"].features["label"].names) == (commit, classes)
        assert len(list(found.splits["train"])) == rows


def test_a_gated_dataset_opens_for_its_members_and_a_scripts_copy_in_parquet_for_all(hub):
    hub.commit("me/closed", standins.splits_of("a", "b", **LABELS), gated=True)
    hub.repo("me/closed", "datasets").members.add("user")
    assert len(source("me/closed").splits["train"]) == 20
    hub.commit("user/old", {"old.py": b"", "README.md": b""})
    (content,) = standins.splits_of("a", "b", train=[0, 1] * 10).values()
    hub.commit("user/old", {"default/train/0000.parquet": content}, branch="refs/convert/parquet")
    assert len(source("user/old", revision="refs/convert/parquet").splits["train"]) == 20


# ---- refusals


def test_offline_what_is_not_in_the_cache_is_refused(birds, hub, tmp_path_factory):
    nowhere = "data.path 'user/birds': no such folder or file here, no such dataset in the local cache, and "
    with pytest.MonkeyPatch.context() as patch:
        in_process.configure(patch, offline=True, cache=tmp_path_factory.mktemp("empty"))
        with refused(f"{nowhere}HF_HUB_OFFLINE is set."):
            opened()
    source("user/birds")
    offline(hub)
    away = f"the Hub cannot be reached ({hub.url})"
    held = f"the local cache of 'user/birds' does not hold it ... {birds['main']} ... {away}"
    with refused(f"data.revision 'three': {held}"):
        opened(revision="three")
    with refused(nowhere.replace("birds", "others") + away):
        opened("user/others")


@pytest.mark.parametrize(
    ("token", "obstacle"), [("", "there is no token"), ("stranger", "the account of this token has no access")]
)
@pytest.mark.parametrize("settings", [{}, STREAM], ids=["stored", "streamed"])
def test_a_gated_dataset_says_where_to_ask(token, obstacle, settings, hub, monkeypatch):
    hub.commit("me/closed", standins.splits_of("a", "b", **LABELS), gated=True)
    monkeypatch.setenv("HF_TOKEN", hub.account(token) if token else "")
    ask = f"Ask for access at {constants.ENDPOINT}/datasets/me/closed, and set HF_TOKEN"
    with refused(f"data.path 'me/closed': a gated dataset, and {obstacle}. ... {ask}"):
        opened("me/closed", **settings)


(ROWS,) = standins.splits_of("a", train=[0]).values()
CARD = standins.card(small={"train": "small/*"}, large={"train": "large/*"})
SCRIPT = {"ds.py": b"raise SystemExit('never run')", "README.md": b""}
SEVERAL = {"small/train.parquet": ROWS, "large/train.parquet": ROWS, "README.md": CARD}
TWO = standins.splits_of("a", "b", **LABELS)


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        (None, {}, "data.path 'user/ds': no such folder or file here, and no such dataset on the Hub ... HF_TOKEN"),
        (None, {"path": "birds"}, "data.path 'birds': no such folder or file here"),
        (None, {"path": "my birds"}, "data.path 'my birds': no such folder or file here"),
        (SCRIPT, {}, "a loading script (ds.py), and scripts are not run ... --data.revision refs/convert/parquet"),
        ({"README.md": b""}, {}, "data.path 'user/ds': this dataset of the Hub can't be opened ... any data files"),
        ({"train.parquet": b"PAR1, but not for long"}, {}, "data.path 'user/ds' ... can't be opened"),
        (SEVERAL, {}, "data.name ... several configurations (small, large)"),
        (TWO, {"revision": "v2"}, "no branch, tag or commit 'v2' (--data.revision) ... /datasets/user/ds"),
        (TWO, {"name": "small"}, "data.name 'small': no such configuration ... there are default"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_with_the_next_step(files, settings, words, hub):
    if files:
        hub.commit("user/ds", files)
    with refused(words):
        opened(**{"path": "user/ds", **settings})


def test_a_private_dataset_is_not_there_for_others_and_an_unknown_token_is_named(birds, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with refused("the Hub does not let this token read it (401)"):
        opened()
    hub.repo("user/birds", "datasets").private = True
    monkeypatch.setenv("HF_TOKEN", hub.account("stranger"))
    with refused("a private one needs HF_TOKEN"):
        opened()


@pytest.mark.slow
def test_a_hub_that_fails_is_said_to_fail(birds, hub):
    hub.fail(500, path="resolve", times=99, headers={"Retry-After": "0"})
    with refused("the Hub has failed (500)"):
        source("user/birds")
