#!/usr/bin/env python3
"""Draws docs/report.png, the README's picture of a report: its first page in headless Chromium.

    target/release/idiolect run                       # runs/default/report.html
    python3 bench/report_picture.py [REPORT.html] [PICTURE.png]

Needs Chromium; with pillow installed the picture is stored in 64 colours, a third of the size.
"""

import pathlib
import subprocess
import sys
import tempfile

QUIET = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking --disable-sync"


def main():
    report = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/default/report.html").resolve()
    picture = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "docs/report.png").resolve()
    if not report.exists():
        sys.exit(f"{report} is not there: `idiolect run` makes it")
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", *QUIET.split(), f"--user-data-dir={profile}", "--window-size=1000,1560", f"--screenshot={picture}"]
        subprocess.run([*command, report.as_uri()], check=True, capture_output=True)
    try:
        from PIL import Image
    except ImportError:
        return
    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main()
