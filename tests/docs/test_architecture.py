"""docs/architecture.md draws the imports that are in the code."""

import re

import grimp
import networkx

from tests.docs.pages import ROOT

GROUND = {"errors", "files", "hub_errors", "randomness", "compat"}


def test_the_picture_is_that_of_the_code():
    code = grimp.build_graph("shvit_pl", exclude_type_checking_imports=True, cache_dir=None)
    imports = networkx.DiGraph()
    for module in code.modules - {"shvit_pl"}:
        for imported in code.find_modules_directly_imported_by(module) - {"shvit_pl"}:
            imports.add_edge(module.split(".")[1], imported.split(".")[1])
    imports.remove_edges_from(list(networkx.selfloop_edges(imports)))
    imports.remove_nodes_from(GROUND)
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"(\w+) --> (\w+)", page)) == set(networkx.transitive_reduction(imports).edges)
    assert set(re.findall(r"^\| `(\w+)(?:/|\.py)` \|", page, re.MULTILINE)) == set(imports)
