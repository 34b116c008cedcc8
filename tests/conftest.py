"""Set-up shared by all tests: a private Hugging Face cache, a Hub on request, and helpers for images and weights."""

import functools
import os
import tempfile
import time

# what a user, a scheduler or a launcher may have set, and what would change a run, a message or where files land
_USERS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "MPL", "JSONARGPARSE_", "LC_", "XDG_", "TORCH_HOME")
_HUBS = ("HF_", "HUGGING", "TRANSFORMERS_")
_LAUNCHERS = ("PL_", "SLURM_", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_")
_THREADS = ("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_")
_CLUSTERS = ("RAY_",)
for _name in list(os.environ):
    if _name.upper().startswith((*_USERS, *_HUBS, *_LAUNCHERS, *_THREADS, *_CLUSTERS)):
        del os.environ[_name]

_FOLDER = tempfile.TemporaryDirectory(prefix="shvit_pl_tests_")
os.environ["HF_HOME"] = _FOLDER.name  # read when datasets and huggingface_hub are imported
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run in several processes already
os.environ["LC_ALL"] = "C.UTF-8"
os.environ["PYTHONUTF8"] = "1"  # this process has its encoding already; pytest's workers and commands get it
os.environ["TZ"] = "UTC"
time.tzset()
if not os.access(os.path.expanduser("~"), os.W_OK):
    os.environ["HOME"] = _FOLDER.name

from tests.hub_server import in_process  # noqa: E402

_HUB_PORT = in_process.reserve()

import docstring_parser  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from PIL import Image  # noqa: E402

from shvit_pl.cli import main  # noqa: E402
from tests.cli.runs import SCENES, fit  # noqa: E402

# most of a parser's cost, and a process builds many here: they read the sources of the same classes again and again
docstring_parser.parse_from_object = functools.cache(docstring_parser.parse_from_object)


def pytest_collection_modifyitems(items):
    """Begin with the longest test, so that no worker ends with it; skip those that need a GPU where there is none."""
    items.sort(key=lambda item: item.path.name != "test_first_run.py")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    """Every test runs in an empty working directory, where runs and predictions land."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(tmp_path_factory):
    """An empty Hub, which the Hugging Face clients of this process speak to as its account `user`."""
    with in_process.online(_HUB_PORT, tmp_path_factory.mktemp("hub_client")) as hub:
        yield hub


@pytest.fixture
def image_folder(tmp_path):
    """A folder of images sorted into class folders: two classes, red and blue, 12 images of 40x32 pixels each."""
    for label, color in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(12):
            shade = tuple(min(255, channel + number) for channel in color)
            Image.new("RGB", (40, 32), shade).save(folder / f"{number:02}.png")
    return tmp_path / "images"


def once_per_session(tmp_path_factory, name, make):
    """Return a folder that the first worker who asks fills by `make(folder)`; nobody else may write into it."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            make(partial)
            partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with averaged weights, which knows the digits well enough to teach."""
    flags = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=30", "--trainer.limit_val_batches=1.0")
    flags = ("--model.ema.decay=0.9", "--model.mix.mixup=0", *flags)

    def train(root):
        assert fit(f"--trainer.default_root_dir={root}", *flags) == 0

    return once_per_session(tmp_path_factory, "teacher", train) / "tiny" / "version_0"


@pytest.fixture(scope="session")
def short_run(tmp_path_factory):
    """The folder of a plain run of two epochs that ended well."""

    def train(root):
        assert fit(f"--trainer.default_root_dir={root}") == 0

    return once_per_session(tmp_path_factory, "short", train) / "tiny" / "version_0"


@pytest.fixture(scope="session")
def detector_run(tmp_path_factory):
    """The folder of a short run of RetinaNet on scenes, with averaged weights, which has hardly learned anything."""
    flags = ("--model.ema.decay=0.5", "--trainer.log_every_n_steps=1", "--model.detector.score=0.001")

    def train(root):
        assert main(["fit", *SCENES, *flags, f"--trainer.default_root_dir={root}"]) == 0

    return once_per_session(tmp_path_factory, "detector", train) / "tiny" / "version_0"


def perturb_(model, seed=0):
    """Give every tensor a value that shows in the output: a fresh SHViT has half its BatchNorms at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if "running_var" in key or key.endswith(("bn.weight", "pre_norm.weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return model
