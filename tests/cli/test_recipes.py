"""`charjax recipes` and `charjax completion`."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from charjax.fields import FIELDS

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def test_the_recipes_are_the_files_of_configs_with_their_first_line(run):
    status, out, _ = run("recipes")
    assert status == 0
    *rows, how = out.splitlines()
    files = sorted(CONFIGS.glob("*.py"))
    assert [row.split()[0] for row in rows] == [file.stem for file in files]
    for row, file in zip(rows, files, strict=True):
        first = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0]
        assert row.endswith(f"  {first}")
    assert "charjax train --config" in how


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_field_and_choice(run, shell):
    status, out, _ = run("completion", shell)
    assert status == 0
    for word in ("train", "sample", "compare", "shakespeare_lstm", "bfloat16"):
        assert word in out
    for field in FIELDS:
        assert f"config.{field}" in out


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes_fields_choices_and_verbs(run, tmp_path):
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash")[1])

    def completed(*words):
        line = " ".join(words)
        bash = f"""
        source {script}
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}
        COMP_WORDS=({" ".join(words)})
        _shtab_charjax
        echo "${{COMPREPLY[@]}}"
        """
        out = subprocess.run(["bash", "-c", bash], capture_output=True, text=True)
        return out.stdout.split()

    assert completed("charjax", "comp") == ["compare", "completion"]
    assert completed("charjax", "train", "--config.model.dr") == [
        "--config.model.dropout", "--config.model.dropout_mode",
    ]  # fmt: skip
    assert completed("charjax", "train", "--config.model.dtype", "b") == ["bfloat16"]
