"""`shvit-pl cache-teacher` in this process, and the answers that it has written."""

import numpy as np
from datasets import load_from_disk

from shvit_pl.cli import main
from tests.cli.runs import QUICK


def flags_of(teacher, folder, *more):
    """A distillation from a cache of a tenth of the digits, three views of them."""
    few = ["--data.train_fraction=0.1", "--model.distill.views=3", "--model.distill.objective=soft"]
    names = [f"--model.distill.teacher={teacher}", f"--model.distill.cache={folder}"]
    return [*names, *few, "--model.distill.teacher_precision=fp32", *more]


def cache_teacher(*flags):
    return main(["cache-teacher", *QUICK, *flags])


def answers(folder):
    """All columns of all shards."""
    shards = sorted(path for path in folder.iterdir() if path.is_dir())
    tables = [load_from_disk(str(shard)).with_format("numpy")[:] for shard in shards]
    return {f"{shard.name} {name}": table[name] for shard, table in zip(shards, tables, strict=True) for name in table}


def assert_same_answers(first, second):
    assert first.keys() == second.keys()
    for name, column in first.items():
        assert np.array_equal(column, second[name]), name
