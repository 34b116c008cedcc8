"""Mistakes in sweep files, and what their messages contain: for `test_sweep_file` and `test_checks`."""

BASE = "base: s1.yaml\n"
GRID = f"{BASE}grid: {{model.design.patch_size: [16, 8]}}\n"
LR = "{low: 0.001, high: 0.1, log: true}"


def searched(flag_and_range, settings=""):
    return f"search: {{{settings}space: {{{flag_and_range}}}}}\n"


FILES = {
    "an empty file": ("", ["empty"]),
    "comments only": ("# grid:\n", ["empty"]),
    "no YAML": ("grid: {model.design.patch_size: [4, 16]\n", [", line 2", "not YAML"]),
    "a tab": ("grid:\n\tdata.batch_size: [8]\n", ["line 2", "a tab"]),
    "a binary file": ("\udcff\udcfe\x00", ["not a text file"]),
    "a program": (f"{BASE}grid: !!python/object/apply:os.mkdir [made]\n", [", line 2", "not YAML", "python"]),
    "a key twice": (f"{GRID}{GRID}", ["line 3", "base appears twice"]),
    "a flag twice": (
        f"{BASE}grid:\n  data.batch_size: [8]\n  data.batch_size: [4]\n",
        ["line 4", "batch_size appears"],
    ),
    "a row twice": ("list: {a: {data.batch_size: 8}, a: {data.batch_size: 4}}\n", ["list.a appears twice"]),
    "a misspelt grid alone": ("gird: {data.batch_size: [8]}\n", ["no sweep file", "did you mean 'grid'"]),
    "a misspelt grid": (f"{BASE}gird: {{data.batch_size: [8]}}\n", ["gird: no such key", "did you mean 'grid'"]),
    "misspelt seeds": (f"{GRID}seed: [1]\n", ["seed: no such key", "did you mean 'seeds'"]),
    "neither grid nor list": (f"{BASE}seeds: [1]\n", ["give one of grid, list and search", "none of them"]),
    "a grid and a list": (f"{GRID}list: {{a: {{}}}}\n", ["give one of", "grid and list"]),
    "a setting of fit": (f"{GRID}data: {{path: digits}}\n", ["data: no such key", "allowed are base, grid"]),
}
BASES = {
    "a base that is nowhere": ("base: s9.yaml\n", ["base 's9.yaml'", "no such file", "did you mean 's"]),
    "a base that is no name": ("base: {name: s1}\n", ["base {'name': 's1'}", "a config of fit, or a list of them"]),
    "a base without a value": ("base:\n", ["base None", "a config of fit"]),
    "a base of numbers": ("base: [1]\n", ["base [1]", "a config of fit"]),
    "a sweep file as base": ("base: my.yaml\n", ["base 'my.yaml'", "a sweep file", "a config of fit"]),
}
GRIDS = {
    "an empty grid": ("grid:\n", ["grid is empty", "give flags and their values"]),
    "a list as grid": ("grid: [model.design.patch_size]\n", ["grid is empty"]),
    "a flag without values": ("grid: {data.batch_size: []}\n", ["grid: data.batch_size []", "a list of values"]),
    "one value for a list": ("grid: {data.batch_size: 8}\n", ["grid: data.batch_size 8", "a list of values"]),
    "a value twice": ("grid: {data.batch_size: [8, 4, 8]}\n", ["grid: data.batch_size [8, 4, 8]", "twice"]),
    "a value twice, as text": ("grid: {data.batch_size: [8, '8']}\n", ["grid: data.batch_size [8, '8']", "twice"]),
    "a section": ("grid: {model: {design: {name: [s1]}}}\n", ["model is a section", "write model.design.name: ['s1']"]),
    "a section of designs": ("grid: {model.design: [s1, s2]}\n", ["grid: model.design", "model.design.name"]),
    "a number as flag": ("grid: {3: [1, 2]}\n", ["grid: 3", "such as model.design.patch_size"]),
    "a date": ("grid: {data.name: [2026-11-22]}\n", ["grid: data.name", "put it in quotes"]),
    "an empty list": ("list:\n", ["list is empty", "give rows by name"]),
    "rows without names": ("list: [{data.batch_size: 8}]\n", ["list is empty", "give rows by name"]),
    "a row that is a value": ("list: {a: 8}\n", ["list: a: 8", "flags and their values"]),
    "a section in a row": ("list: {a: {data: {batch_size: 8}}}\n", ["a: data is a section", "data.batch_size: 8"]),
}
SEARCHES = {
    "a search without a space": ("search: {n_trials: 3}\n", ["search: give a space"]),
    "an empty search": ("search:\n", ["search: give a space"]),
    "an empty space": ("search: {space: {}}\n", ["search: give a space"]),
    "a list as space": ("search: {space: [model.optim.lr]}\n", ["search: give a space"]),
    "a misspelt key": ("search: {n_trails: 3, space: {}}\n", ["n_trails: no such key", "did you mean 'n_trials'"]),
    "a number as key": ("search: {3: 4}\n", ["3: no such key"]),
    "no trials": (searched(f"lr: {LR}", "n_trials: 0, "), ["n_trials 0", "from 1"]),
    "true trials": (searched(f"lr: {LR}", "n_trials: true, "), ["n_trials True"]),
    "trials by a word": (searched(f"lr: {LR}", "n_trials: ten, "), ["n_trials 'ten'"]),
    "an unknown sampler": (searched(f"lr: {LR}", "sampler: tpee, "), ["'tpee': allowed are tpe, nsga2, random"]),
    "an unknown pruner": (searched(f"lr: {LR}", "pruner: avg, "), ["pruner 'avg'", "none, median, halving"]),
    "no pruner": (searched(f"lr: {LR}", "pruner: null, "), ["pruner None"]),
    "a list of pruners": (searched(f"lr: {LR}", "pruner: [median], "), ["pruner ['median']"]),
    "an empty range": (searched("lr: {}"), ["lr {}", "a list of choices, or a range such as"]),
    "a value for a range": (searched("lr: 0.1"), ["lr 0.1", "a range such as"]),
    "a range without an end": (searched("lr: {low: 0.1}"), ["{'low': 0.1}", "a range such as"]),
    "an unknown key of a range": (searched("lr: {low: 1, high: 2, hihg: 3}"), ["a range such as"]),
    "no choices": (searched("lr: []"), ["a list of values"]),
    "a choice twice": (searched("lr: [1, 1]"), ["a value is there twice"]),
    "a list as choice": (searched("lr: [[1, 2]]"), ["numbers, text, true, false and null"]),
    "low above high": (searched("lr: {low: 2, high: 1}"), ["low must be below"]),
    "low equals high": (searched("lr: {low: 1, high: 1}"), ["low must be below"]),
    "a logarithm of 0": (searched("lr: {low: 0, high: 1, log: true}"), ["with log, low above 0"]),
    "a logarithm with steps": (searched("lr: {low: 1, high: 9, log: true, step: 2}"), ["log has no step"]),
    "a logarithm by a word": (searched("lr: {low: 1, high: 9, log: 'yes'}"), ["log is true or false"]),
    "no step": (searched("lr: {low: 1, high: 9, step: 0}"), ["step above 0"]),
    "an empty step": (searched("lr: {low: 1, high: 9, step: null}"), ["finite numbers"]),
    "an end that is no number": (searched("lr: {low: .nan, high: 1.0}"), ["finite numbers"]),
    "an infinite end": (searched("lr: {low: 1, high: .inf}"), ["finite numbers"]),
    "a true end": (searched("lr: {low: true, high: 2}"), ["finite numbers"]),
    "1e-3": (searched("lr: {low: 1e-3, high: 1.0}"), ["lr", "YAML reads 1e-3 as text: write 1.0e-3"]),
    "several seeds": (f"{searched(f'lr: {LR}')}seeds: [0, 1]\n", ["seeds [0, 1]", "one seed"]),
    "a pruner of several objectives": (
        f"{searched(f'lr: {LR}', 'pruner: median, ')}objective: [val/acc1, macs]\n",
        ["pruner median", "not several (val/acc1, macs)", "pruner none, or one objective"],
    ),
    "a pruner of costs": (
        f"{searched(f'lr: {LR}', 'pruner: halving, ')}objective: macs\n",
        ["pruner halving", "macs does not change from epoch to epoch", "val/acc1"],
    ),
}
SEEDS_AND_OBJECTIVES = {
    **{
        f"seeds: {seeds}": (f"seeds: {seeds}\n", [" seeds ", "a list of different whole numbers from 0"])
        for seeds in ("3", "[]", "[1, 1]", "[-1]", "[1.5]", "[true]", "", "[0, one]", "{0: 1}")
    },
    "an unknown objective": ("objective: val/lss\n", ["val/lss (did you mean 'val/loss'?): allowed are val/acc1"]),
    "an empty objective": ("objective:\n", ["objective None: allowed are val/acc1"]),
    "no objectives": ("objective: []\n", ["objective []: allowed are val/acc1"]),
    "a number as objective": ("objective: 3\n", ["objective 3: allowed are val/acc1"]),
    "numbers as objectives": ("objective: [3]\n", ["objective [3]: allowed are val/acc1"]),
    "a number with a direction": ("objective: {3: max}\n", ["objective 3: allowed are val/acc1"]),
    "an objective twice": ("objective: [macs, macs]\n", ["objective ['macs', 'macs']", "twice"]),
    "a metric cut short": ("objective: val/acc\n", ["objective val/acc", "did you mean 'val/acc1'"]),
    "an unknown direction": ("objective: {macs: low}\n", ["objective macs 'low': allowed are min and max"]),
    "an empty direction": ("objective: {macs: }\n", ["objective macs None: allowed are min and max"]),
    "a list as direction": ("objective: {macs: [max]}\n", ["allowed are min and max"]),
}
SHAPE = {
    **FILES,
    **{name: (f"{text}grid: {{data.batch_size: [8]}}\n", parts) for name, (text, parts) in BASES.items()},
    **{name: (BASE + text, parts) for name, (text, parts) in {**GRIDS, **SEARCHES}.items()},
    **{name: (GRID + text, parts) for name, (text, parts) in SEEDS_AND_OBJECTIVES.items()},
}

OF_FIT_BASES = {
    "an unknown setting in the base": ("base: bad.yaml\n", ["data.batchsize", "did you mean 'data.batch_size'"]),
    "an impossible value in the base": ("base: [s1.yaml, low.yaml]\n", ["model.optim.lr 0", "above 0"]),
    "no run folder": ("base: dev.yaml\n", ["trainer.fast_dev_run True", "keeps its run folder"]),
    "no logger": ("base: nolog.yaml\n", ["trainer.logger False", "keeps its run folder"]),
}
OF_FIT_CELLS = {
    "hyphens": ("grid: {--data.batch_size: [8]}\n", ["--data.batch_size", "did you mean 'data.batch_size'"]),
    "an unknown flag": ("grid: {model.optim.lrr: [1]}\n", ["model.optim.lrr", "did you mean 'model.optim.lr'"]),
    "a flag without its section": ("grid: {lr: [0.1]}\n", ["'my.yaml': lr: no such", "did you mean 'model.optim.lr'"]),
    "an abbreviated flag": ("grid: {data.batch_s: [8]}\n", ["data.batch_s", "did you mean 'data.batch_size'"]),
    "a wrong type": ("grid: {data.batch_size: [many]}\n", ["data.batch_size many", "a whole number"]),
    "a wrong type in one cell": (
        "grid: {data.batch_size: [8, many]}\n",
        ["1 of 2 cells can't run", "batch_size many: data.batch_size many", "a whole number"],
    ),
    "wrong values in several cells": (
        "grid: {model.optim.lr: [0.1, 0, -1], data.batch_size: [8, 1]}\n",
        ["5 of 6 cells can't run", "lr 0, batch_size 8 (and 1 more): model.optim.lr 0", "data.batch_size 1"],
    ),
    "a cell that can't be built": (
        "grid: {model.design.stages: [3, 9]}\n",
        ["1 of 2 cells can't run", "stages 9: model.design.stages 9", "depth"],
    ),
    "no cell that can be built": ("grid: {model.design.stages: [9]}\n", ["model.design.stages 9", "give depth"]),
    "a size that no stage can halve": ("grid: {data.image_size: [64, 32]}\n", ["image_size 32", "stride 64"]),
    "a dataset that is not there": ("grid: {data.path: [digits, ./none]}\n", ["1 of 2", "data.path './none'"]),
    "a teacher that is not there": (
        "grid: {model.distill.teacher: [null, ./none]}\n",
        ["1 of 2", "model.distill.teacher './none'"],
    ),
    "weights that are not there": ("grid: {model.init_from: [./none.pth]}\n", ["model.init_from", "'./none.pth'"]),
    "the seed": ("grid: {seed_everything: [1, 2]}\n", ["'my.yaml': seed_everything", "seeds in the sweep file"]),
    "the run's name": ("grid: {run_name: [a, b]}\n", ["'my.yaml': run_name", "not to be set here"]),
    "an unknown flag in a row": ("list: {a: {data.btch_size: 8}}\n", ["data.btch_size", "did you mean 'data.batch_"]),
    "a wrong value in a row": ("list: {a: {}, b: {data.augment: flip}}\n", ["1 of 2", "b: data.augment flip"]),
    "what differs by row": (
        "list: {a: {data.augment: no}, b: {data.batch_size: 1}, c: {}, d: {model.design.stages: 9}, e: {data.path: x}}",
        ["4 of 5 cells can't run", "a: data.augment false", "b: data.batch_size 1", "; and 1 more."],
    ),
    "the folder in a row": ("list: {a: {trainer.default_root_dir: x}}\n", ["default_root_dir", "set by --folder"]),
    "the logger in a row": ("list: {a: {trainer.logger: false}}\n", ["trainer.logger", "keeps its run folder"]),
    "a checkpoint in a row": ("list: {a: {ckpt_path: last}}\n", ["ckpt_path", "resume by themselves"]),
    "an unknown flag to search": (searched(f"lr: {LR}"), ["lr", "did you mean 'model.optim.lr'"]),
    "an end that can't be": (
        searched("model.optim.lr: {low: 0.0, high: 0.1}"),
        ["1 of 2 cells can't run", "lr 0.0: model.optim.lr 0.0"],
    ),
    "a fraction for a whole number": (
        searched("data.batch_size: {low: 2.5, high: 8}"),
        ["batch_size 2.5: data.batch_size 2.5", "a whole number"],
    ),
    "a choice that can't be": (searched("data.augment: [crop, flip]"), ["augment flip", "none, shift"]),
}
OF_FIT = {
    **{name: (f"{text}grid: {{data.batch_size: [8]}}\n", parts) for name, (text, parts) in OF_FIT_BASES.items()},
    **{name: (BASE + text, parts) for name, (text, parts) in OF_FIT_CELLS.items()},
    "an average that is not kept": (
        f"{GRID}objective: val/acc1_ema\n",
        ["objective val/acc1_ema", "--model.ema.decay"],
    ),
}

# flags beside a good sweep file
FLAGS = [
    (["--wokers=3"], ["--wokers", "no such flag of sweep or fit", "did you mean '--workers'"]),
    (["--model.optim.lrr=1"], ["--model.optim.lrr", "did you mean '--model.optim.lr'"]),
    (["--epochs=3"], ["--epochs", "did you mean '--trainer.max_epochs'"]),
    (["--data.batch_size=many"], ["data.batch_size many", "a whole number"]),
    (["--model.optim.lr=0"], ["model.optim.lr 0", "above 0"]),
    (["--model.design.patch_size=4"], ["--model.design.patch_size", "my.yaml varies it"]),
    (["--run_name=mine"], ["--run_name", "named after its point"]),
    (["--push_to=user/best"], ["--push_to", "pushes the best run"]),
    (["--ckpt_path=last"], ["--ckpt_path", "resume by themselves"]),
    (["--seed_everything=3"], ["--seed_everything", "set by seeds in the sweep file"]),
    (["--monitor=val/loss"], ["--monitor", "set by objective in the sweep file"]),
    (["--trainer.default_root_dir=x"], ["--trainer.default_root_dir", "set by --folder"]),
    (["--trainer.logger=false"], ["--trainer.logger", "keeps its run folder"]),
    (["--trainer.fast_dev_run=true"], ["--trainer.fast_dev_run", "keeps its run folder"]),
    (["--trainer.num_nodes=2"], ["--trainer.num_nodes", "--storage"]),
    (["--seeds=[1,2]"], ["--seeds", "set in the sweep file"]),
    (["--n_trials=9"], ["--n_trials", "set in the sweep file"]),
    (["--trainer.limit_val_batches=0"], ["objective val/acc1", "there is no validation"]),
    (["--trainer.max_epochs=0"], ["trainer.max_epochs 0", "from 1"]),
    (["--data.path=./none"], ["data.path './none'", "no such file or folder"]),
    (["--model.distill.teacher=./none"], ["model.distill.teacher './none'"]),
    (["stray"], ["stray: an argument without a flag", "after its flag"]),
    (["more.yaml"], ["more.yaml", "--config more.yaml"]),
]
