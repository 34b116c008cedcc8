"""Names of the user's are text wherever they are shown: no markup, no mathematics, no HTML, no table."""

import pytest
from PIL import Image as PILImage

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit

NAMES = ["[/b]", "[bold]x", "$a$ b$^", "<script>alert(1)</script>", "a | b", ":smile:", "{{ 7 * 7 }}", "`x`"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output of a run on classes with such names, in a folder with such a name."""
    root = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        lines = ["file_name\tlabel"]
        for number in range(4 * len(NAMES)):
            PILImage.new("RGB", (8, 8), (number, 0, 0)).save(f"{number}.png")
            lines.append(f"{number}.png\t{NAMES[number % len(NAMES)]}")
        (root / "set [old].tsv").write_text("\n".join(lines) + "\n")
        flags = [
            "--data.path=set [old].tsv",
            "--run_name=run [old]",
            "--data.batch_size=8",
            "--data.validation_fraction=0.3",
        ]
        assert fit(*flags, "--trainer.max_epochs=1") == 0
        yield root / "runs" / "run [old]" / "version_0"


def test_the_runs_table_shows_them_as_they_are(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained.parents[2])
    monkeypatch.setenv("COLUMNS", "200")
    assert read_summary(trained)["classes"] == sorted(NAMES)
    assert {path.name for path in (trained / "figures").iterdir()} == {
        "confusion_matrix.png",
        "curves.png",
        "inputs.png",
    }
    assert main(["validate", f"--ckpt_path={trained}"]) == 0
    assert "set [old].tsv" in capsys.readouterr().out
    assert main(["benchmark", str(trained), "--seconds=0.1", "--blocks=5", "--image_size=64", "--output=b"]) == 0
    assert "run [old]" in capsys.readouterr().out


def test_the_card_neither_renders_nor_breaks(trained, monkeypatch):
    monkeypatch.chdir(trained.parents[2])
    assert main(["push", str(trained), "--repo_id=user/name", "--dry_run", "--output=card"]) == 0
    card = (trained.parents[2] / "card" / "README.md").read_text()
    assert "{{ 7 * 7 }}" in card
    assert "49" not in card.partition("Classes:")[2].partition("\n")[0]
    assert "<script>" not in "".join(part for part in card.split("`")[::2])  # outside of code
