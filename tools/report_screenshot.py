"""A picture of the report for the README: `python -m tools.report_screenshot results/report.html TARGET.png`.

It needs Chromium and the Python package playwright, as the tests of the report do.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

VIEW = {"width": 1280, "height": 1100}
COLOURS = 255


def main(report: Path, target: Path) -> None:
    """The page at its gallery, in a palette that keeps the file small."""
    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=VIEW)
        page.goto(report.absolute().as_uri() + "#gallery")
        page.evaluate("document.activeElement.blur()")
        shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
