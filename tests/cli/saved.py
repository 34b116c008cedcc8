"""Networks as timm saves them."""

from timm.models import save_for_hf

from shvit_pl.models import create_model
from tests.conftest import perturb_

NAMES = [f"class {number}" for number in range(10)]
DATA = ["--data.path=digits", "--data.num_workers=0"]


def save(folder, **changes):
    """A model with visible weights, as timm saves it."""
    model = perturb_(create_model("tiny", num_classes=10, **changes)).eval()
    save_for_hf(
        model, folder, model_config={"label_names": NAMES}, model_args=model._model_args, safe_serialization=True
    )
    return model
