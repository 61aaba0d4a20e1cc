"""A page in a real browser, where there is one."""

import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
needed = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


def look(page, hook, folder, width=1280):
    """Returns the page and what a script at its end put into `document.body.dataset`.

    Asserts that nothing went wrong.
    """
    file = folder / "page.html"
    hooked = page.replace("</body>", f"<script>{hook}</script></body>")
    file.write_text(hooked, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000",
            f"--window-size={width},900", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    body = re.search(r"<body([^>]*)>", done.stdout)[1]
    return done.stdout, dict(re.findall(r'data-(\w+)="([^"]*)"', body))
