"""Other libraries still have the private API that is used here."""

from argparse import ArgumentParser

import timm
from timm.models import save_for_hf

from shvit_pl import compat


def test_parser_actions_are_its_options():
    parser = ArgumentParser()
    parser.add_argument("--name")
    assert [action.dest for action in compat.parser_actions(parser)] == ["help", "name"]


def test_a_folders_config_is_the_saved_networks(tmp_path):
    model = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(model, tmp_path, safe_serialization=True, model_config={"label_names": ["a", "b", "c"]})
    cfg, architecture, _ = compat.load_timm_config(tmp_path)
    assert (architecture, cfg["num_classes"], cfg["label_names"]) == ("test_resnet", 3, ["a", "b", "c"])
