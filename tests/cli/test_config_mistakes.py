"""Mistakes in a config: each is one short line with the file, the line or the setting, and what is allowed."""

import pytest

YAML = {
    "a bracket too few": ("model: {design: {name: s1}\n", ["--config 'mine.yaml', line 2", "not YAML", "}"]),
    "a tab": ("model:\n\tdesign:\n", ["--config 'mine.yaml', line 2", "a tab"]),
    "a wrong indent": ("data:\n  path: digits\n   batch_size: 8\n", ["--config 'mine.yaml', line 3", "not YAML"]),
    "an unknown alias": ("data: {path: *mine}\n", ["--config 'mine.yaml', line 1", "mine"]),
    "a program": ("run_name: !!python/object/apply:os.mkdir [made]\n", ["python/object/apply"]),
    "an empty file": ("", ["--config 'mine.yaml'", "empty"]),
    "comments only": ("# model:\n", ["--config 'mine.yaml'", "empty"]),
    "a list": ("- model\n- data\n", ["--config 'mine.yaml'", "allowed are settings"]),
    "a text": ("digits\n", ["--config 'mine.yaml'", "allowed are settings"]),
    "a binary file": ("\udcff\udcfe\x00", ["--config 'mine.yaml'", "not a text file"]),
    "a key twice": ("data:\n  path: a\ndata:\n  path: b\n", ["--config 'mine.yaml', line 3", "data appears twice"]),
    "a setting twice": ("data:\n  path: a\n  path: b\n", ["line 3", "data.path appears twice"]),
    "an empty section": ("data:\n  # path: digits\n", ["--config 'mine.yaml', line 1", "data is empty"]),
    "an unknown section": ("modle: {label_smoothing: 0}\n", ["modle.label_smoothing", "'model.label_smoothing'"]),
    "an unknown key": ("model: {design: {nmae: s1}}\n", ["model.design.nmae", "did you mean 'model.design.name'"]),
    "the command as a section": ("fit: {data: {path: digits}}\n", ["fit.data.path", "did you mean 'data.path'"]),
    "a value for a section": ("model: {design: s2}\n", ["model.design s2", "section", "model.design.name"]),
    "a truth for a section": ("model: {ema: true}\n", ["model.ema True", "section", "model.ema.decay"]),
    "nothing for a setting": ("data: {path: null}\n", ["data.path"]),
    "a number for a section": ("trainer: 3\n", ["trainer 3", "section", "trainer.max_epochs"]),
    "nothing for a section": ("model: {ema: null}\n", ["model.ema None", "section", "model.ema.decay"]),
    "a text for a number": ("model: {ema: {decay: lots}}\n", ["model.ema.decay lots", "a number"]),
    "a list for a number": ("trainer: {max_epochs: [1, 2]}\n", ["trainer.max_epochs [1, 2]", "whole number"]),
    "on for a number": ("model: {mix: {mixup: on}}\n", ["model.mix.mixup True", "a number"]),
    "what the data say": ("model: {class_names: [a, b]}\n", ["10 classes", "the model 2 (a, b, ...)"]),
}


@pytest.mark.parametrize("mistake", YAML)
def test_a_mistake_in_a_config(mistake, refused, tmp_path):
    text, words = YAML[mistake]
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    refused(["--config=mine.yaml"], *words)
