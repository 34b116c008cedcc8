"""What users get wrong with a sweep, and what they are told: for `test_mistakes`."""

BASE = "base: s1.yaml\n"
GRID = f"{BASE}grid: {{model.design.patch_size: [16, 8]}}\n"
RANGE = "{low: 0.001, high: 0.1, log: true}"

# a sweep file, and what is said of it
SHAPE = {
    "an empty file": ("", ["--config 'my.yaml'", "empty"]),
    "comments only": ("# grid:\n", ["--config 'my.yaml'", "empty"]),
    "no YAML": ("grid: {model.design.patch_size: [4, 16]\n", ["--config 'my.yaml', line 2", "not YAML"]),
    "a tab": ("grid:\n\tdata.batch_size: [8]\n", ["line 2", "a tab"]),
    "a binary file": ("\udcff\udcfe\x00", ["--config 'my.yaml'", "not a text file"]),
    "a program": (f"{BASE}grid: !!python/object/apply:os.mkdir [made]\n", ["'my.yaml', line 2", "not YAML", "python"]),
    "a key twice": (f"{GRID}{GRID}", ["line 3", "base is there twice"]),
    "a flag twice": (
        f"{BASE}grid:\n  data.batch_size: [8]\n  data.batch_size: [4]\n",
        ["line 4", "batch_size is"],
    ),
    "a row twice": ("list: {a: {data.batch_size: 8}, a: {data.batch_size: 4}}\n", ["list.a is there twice"]),
    "a misspelt grid alone": ("gird: {data.batch_size: [8]}\n", ["no sweep file", "did you mean 'grid'"]),
    "a misspelt grid": (f"{BASE}gird: {{data.batch_size: [8]}}\n", ["gird: no such key", "did you mean 'grid'"]),
    "misspelt seeds": (f"{GRID}seed: [1]\n", ["seed: no such key", "did you mean 'seeds'"]),
    "neither grid nor list": (f"{BASE}seeds: [1]\n", ["give one of grid, list and search", "none of them"]),
    "a grid and a list": (f"{GRID}list: {{a: {{}}}}\n", ["give one of", "grid and list"]),
    "a setting of fit": (f"{GRID}data: {{path: digits}}\n", ["data: no such key", "allowed are base, grid"]),
}
BASES = {
    "a base that is nowhere": ("base: s9.yaml\n", ["'my.yaml': base 's9.yaml'", "no such file", "did you mean 's"]),
    "a base that is no name": ("base: {name: s1}\n", ["base {'name': 's1'}", "a config of fit, or a list of them"]),
    "a base without a value": ("base:\n", ["base None", "a config of fit"]),
    "a base of numbers": ("base: [1]\n", ["base [1]", "a config of fit"]),
    "a sweep file as base": ("base: my.yaml\n", ["base 'my.yaml'", "a sweep file", "a config of fit"]),
    "an unknown setting in the base": ("base: bad.yaml\n", ["data.batchsize", "did you mean 'data.batch_size'"]),
    "an impossible value in the base": ("base: [s1.yaml, low.yaml]\n", ["model.optim.lr 0", "above 0"]),
    "no run folder": ("base: dev.yaml\n", ["trainer.fast_dev_run True", "keeps its run folder"]),
    "no logger": ("base: nolog.yaml\n", ["trainer.logger False", "keeps its run folder"]),
}
GRIDS = {
    "an empty grid": ("grid:\n", ["grid is empty", "give flags and their values"]),
    "a list as grid": ("grid: [model.design.patch_size]\n", ["grid is empty"]),
    "a flag without values": ("grid: {data.batch_size: []}\n", ["grid: data.batch_size []", "a list of values"]),
    "one value for a list": ("grid: {data.batch_size: 8}\n", ["grid: data.batch_size 8", "a list of values"]),
    "a value twice": ("grid: {data.batch_size: [8, 4, 8]}\n", ["grid: data.batch_size [8, 4, 8]", "twice"]),
    "a value twice, as text": ("grid: {data.batch_size: [8, '8']}\n", ["grid: data.batch_size [8, '8']", "twice"]),
    "a section": (
        "grid: {model: {design: {name: [s1]}}}\n",
        ["grid: model is a section", "write model.design.name: ['s1']"],
    ),
    "a section of designs": ("grid: {model.design: [s1, s2]}\n", ["grid: model.design", "model.design.name"]),
    "a number as flag": ("grid: {3: [1, 2]}\n", ["grid: 3", "such as model.design.patch_size"]),
    "hyphens": ("grid: {--data.batch_size: [8]}\n", ["--data.batch_size", "did you mean 'data.batch_size'"]),
    "a date": ("grid: {data.name: [2026-11-22]}\n", ["grid: data.name", "put it in quotes"]),
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
    "weights that are not there": (
        "grid: {model.init_from: [./none.pth]}\n",
        ["model.init_from './none.pth'"],
    ),
    "the seed": ("grid: {seed_everything: [1, 2]}\n", ["'my.yaml': seed_everything", "seeds in the sweep file"]),
    "the run's name": ("grid: {run_name: [a, b]}\n", ["'my.yaml': run_name", "not to be set here"]),
}
LISTS = {
    "an empty list": ("list:\n", ["list is empty", "give rows by name"]),
    "rows without names": ("list: [{data.batch_size: 8}]\n", ["list is empty", "give rows by name"]),
    "a row that is a value": ("list: {a: 8}\n", ["list: a: 8", "flags and their values"]),
    "a section in a row": (
        "list: {a: {data: {batch_size: 8}}}\n",
        ["list: a: data is a section", "write data.batch_size: 8"],
    ),
    "an unknown flag in a row": ("list: {a: {data.btch_size: 8}}\n", ["data.btch_size", "did you mean 'data.batch_"]),
    "a wrong value in a row": ("list: {a: {}, b: {data.augment: flip}}\n", ["1 of 2", "b: data.augment flip"]),
    "what differs by row": (
        "list: {a: {data.augment: no}, b: {data.batch_size: 1}, c: {}, d: {model.design.stages: 9}, e: {data.path: x}}",
        ["4 of 5 cells can't run", "a: data.augment false", "b: data.batch_size 1", "; and 1 more."],
    ),
    "the folder in a row": ("list: {a: {trainer.default_root_dir: x}}\n", ["default_root_dir", "--folder says it"]),
    "the logger in a row": ("list: {a: {trainer.logger: false}}\n", ["trainer.logger", "keeps its run folder"]),
    "a checkpoint in a row": ("list: {a: {ckpt_path: last}}\n", ["ckpt_path", "go on by themselves"]),
}
SEARCHES = {
    "a search without a space": ("search: {n_trials: 3}\n", ["search: give a space"]),
    "an empty search": ("search:\n", ["search: give a space"]),
    "a misspelt key": ("search: {n_trails: 3, space: {}}\n", ["n_trails", "did you mean 'n_trials'"]),
    "no trials": (f"search: {{n_trials: 0, space: {{model.optim.lr: {RANGE}}}}}\n", ["n_trials 0", "from 1"]),
    "trials by a word": (f"search: {{n_trials: ten, space: {{model.optim.lr: {RANGE}}}}}\n", ["n_trials 'ten'"]),
    "an unknown sampler": (
        f"search: {{sampler: tpee, space: {{model.optim.lr: {RANGE}}}}}\n",
        ["sampler 'tpee'"],
    ),
    "an unknown pruner": (f"search: {{pruner: avg, space: {{model.optim.lr: {RANGE}}}}}\n", ["pruner 'avg'", "median"]),
    "an empty range": ("search: {space: {model.optim.lr: {}}}\n", ["model.optim.lr {}", "a range such as"]),
    "a value for a range": ("search: {space: {model.optim.lr: 0.1}}\n", ["model.optim.lr 0.1", "a range such as"]),
    "a range without an end": ("search: {space: {model.optim.lr: {low: 0.1}}}\n", ["{'low': 0.1}", "a range such as"]),
    "low above high": (
        "search: {space: {model.optim.lr: {low: 2, high: 1}}}\n",
        ["low must be below"],
    ),
    "a logarithm of 0": (
        "search: {space: {model.optim.lr: {low: 0, high: 1, log: true}}}\n",
        ["model.optim.lr", "with log, low above 0"],
    ),
    "1e-3": ("search: {space: {model.optim.lr: {low: 1e-3, high: 1.0}}}\n", ["model.optim.lr", "write 1.0e-3"]),
    "an unknown flag to search": (f"search: {{space: {{lr: {RANGE}}}}}\n", ["lr", "did you mean 'model.optim.lr'"]),
    "an end that can't be": (
        "search: {space: {model.optim.lr: {low: 0.0, high: 0.1}}}\n",
        ["1 of 2 cells can't run", "lr 0.0: model.optim.lr 0.0"],
    ),
    "a fraction for a whole number": (
        "search: {space: {data.batch_size: {low: 2.5, high: 8}}}\n",
        ["batch_size 2.5: data.batch_size 2.5", "a whole number"],
    ),
    "a choice that can't be": (
        "search: {space: {data.augment: [crop, flip]}}\n",
        ["augment flip", "none, shift"],
    ),
    "several seeds": (f"search: {{space: {{model.optim.lr: {RANGE}}}}}\nseeds: [0, 1]\n", ["seeds [0, 1]", "one seed"]),
    "a pruner of several objectives": (
        f"search: {{pruner: median, space: {{model.optim.lr: {RANGE}}}}}\nobjective: [val/acc1, macs]\n",
        ["pruner median", "several objectives (val/acc1, macs)", "pruner none, or one objective"],
    ),
    "a pruner of costs": (
        f"search: {{pruner: halving, space: {{model.optim.lr: {RANGE}}}}}\nobjective: macs\n",
        ["pruner halving", "macs does not change", "val/acc1"],
    ),
}
SEEDS_AND_OBJECTIVES = {
    "one seed without a list": ("seeds: 3\n", ["seeds 3", "a list of different whole numbers"]),
    "no seeds": ("seeds: []\n", ["seeds []", "whole numbers from 0"]),
    "a seed twice": ("seeds: [1, 1]\n", ["seeds [1, 1]", "different"]),
    "a seed below 0": ("seeds: [-1]\n", ["seeds [-1]", "from 0"]),
    "an unknown objective": ("objective: val/lss\n", ["objective val/lss", "did you mean 'val/loss'"]),
    "an empty objective": ("objective:\n", ["objective None", "val/acc1"]),
    "an objective twice": ("objective: [macs, macs]\n", ["objective ['macs', 'macs']", "twice"]),
    "a metric cut short": ("objective: val/acc\n", ["objective val/acc", "did you mean 'val/acc1'"]),
    "an unknown direction": ("objective: {macs: low}\n", ["objective macs 'low'", "min and max"]),
    "an average that is not kept": ("objective: val/acc1_ema\n", ["objective val/acc1_ema", "--model.ema.decay"]),
}
FILES = {
    **SHAPE,
    **{name: (f"{text}grid: {{data.batch_size: [8]}}\n", said) for name, (text, said) in BASES.items()},
    **{name: (BASE + text, said) for name, (text, said) in {**GRIDS, **LISTS, **SEARCHES}.items()},
    **{name: (GRID + text, said) for name, (text, said) in SEEDS_AND_OBJECTIVES.items()},
}

# flags beside a good sweep file
FLAGS = [
    (["--wokers=3"], ["--wokers", "no such flag of sweep or fit", "did you mean '--workers'"]),
    (["--model.optim.lrr=1"], ["--model.optim.lrr", "did you mean '--model.optim.lr'"]),
    (["--epochs=3"], ["--epochs", "did you mean '--trainer.max_epochs'"]),
    (["--data.batch_size=many"], ["data.batch_size many", "a whole number"]),
    (["--model.optim.lr=0"], ["model.optim.lr 0", "above 0"]),
    (["--model.design.patch_size=4"], ["--model.design.patch_size", "my.yaml varies it"]),
    (["--run_name=mine"], ["--run_name", "the name of its point"]),
    (["--push_to=user/best"], ["--push_to", "pushes the best run"]),
    (["--ckpt_path=last"], ["--ckpt_path", "go on by themselves"]),
    (["--seed_everything=3"], ["--seed_everything", "seeds in the sweep file say it"]),
    (["--monitor=val/loss"], ["--monitor", "objective in the sweep file says it"]),
    (["--trainer.default_root_dir=x"], ["--trainer.default_root_dir", "--folder says it"]),
    (["--trainer.logger=false"], ["--trainer.logger", "keeps its run folder"]),
    (["--trainer.fast_dev_run=true"], ["--trainer.fast_dev_run", "keeps its run folder"]),
    (["--trainer.num_nodes=2"], ["--trainer.num_nodes", "--storage"]),
    (["--seeds=[1,2]"], ["--seeds", "the sweep file says it"]),
    (["--n_trials=9"], ["--n_trials", "the sweep file says it"]),
    (["--trainer.limit_val_batches=0"], ["objective val/acc1", "there is no validation"]),
    (["--trainer.max_epochs=0"], ["trainer.max_epochs 0", "from 1"]),
    (["--data.path=./none"], ["data.path './none'", "no such file or folder"]),
    (["--model.distill.teacher=./none"], ["model.distill.teacher './none'"]),
    (["--config=s2.yaml", "--config=s9.yaml"], ["--config 's9.yaml'", "no such file"]),
    (["--config=other.yaml"], ["'my.yaml', 'other.yaml'", "2 of these are sweep files", "give one"]),
    (["--config"], ["--config", "expected one argument"]),
    (["stray"], ["stray: an argument without a flag", "after its flag"]),
    (["more.yaml"], ["more.yaml", "--config more.yaml"]),
    (["--storage=postgres://user@host/db"], ["write postgresql://user@host/db"]),
    (["--workers=0"], ["--workers 0", "from 1"]),
    (["--workers", "-1"], ["--workers -1", "from 1"]),
    (["--workers=all"], ["workers all", "a whole number"]),
    (["--workers"], ["--workers", "expected one argument"]),
    (["--per_gpu=0"], ["--per_gpu 0", "from 1"]),
    (["--gpus=two"], ["--gpus 'two'", "such as 0,1,2"]),
    (["--retries=-1"], ["--retries -1", "from 0"]),
    (["--heartbeat=0"], ["--heartbeat 0.0", "above 0"]),
    (["--speed=perhaps"], ["speed perhaps", "true or false"]),
    (["--dry-run=perhaps"], ["dry_run perhaps", "true or false"]),
    (["--storage=sqlite:///x"], ["--storage sqlite:///x", "SQLite", "postgresql://"]),
    (["--storage=nonsense"], ["--storage nonsense", "postgresql://"]),
    (["--storage=postgresql://nobody@localhost:1/x"], ["--storage postgresql://nobody@localhost:1/x", "refused"]),
    (["--folder="], ["--folder ''", "give a folder"]),
    (["--folder=my.yaml"], ["--folder 'my.yaml'", "is a file"]),
    (["--folder=my.yaml/sweep"], ["--folder 'my.yaml/sweep'", "is a file"]),
]
