"""The manifest of Kubernetes in docs/cluster.md is one that KubeRay takes."""

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT

# RayJob v1 in KubeRay 1.7 (ray-operator/config/crd/bases/ray.io_rayjobs.yaml), without descriptions
SCHEMA = Path(__file__).with_name("rayjob_v1.json.gz")


def closed(schema):
    """A schema that refuses fields it doesn't name, which Kubernetes would drop without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    is_open = "properties" not in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return {name: closed(part) for name, part in schema.items()} | ({} if is_open else {"additionalProperties": False})


def test_the_manifest_is_a_rayjob():
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, which the extra ray brings")
    shown = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "cluster.md").read_text(), re.MULTILINE | re.DOTALL)
    (manifest,) = [yaml.safe_load(code) for code in shown if "kind: RayJob" in code]
    schema = closed(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    schema["properties"]["metadata"] = {"type": "object"}  # any object's
    checker = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in checker.iter_errors(manifest)] == []
    manifest["spec"]["rayClusterSpec"]["workerGroup"] = []
    assert [error.message for error in checker.iter_errors(manifest)]
