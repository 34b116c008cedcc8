"""What lies where in a sweep folder; the report's files are named where they are written."""

from __future__ import annotations

SWEEP = "sweep.yaml"  # what the sweep is, for people and for `report`
JOURNAL = "study.journal"
RUNS = "runs"  # each point's run folder, by its key
LOGS = "logs"  # what each run and each worker printed
