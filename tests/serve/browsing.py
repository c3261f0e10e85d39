"""A browser on the studio: pages that are signed in, watched, and photographed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Response

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "a token that only tests know"
SIZES = {"phone": (390, 844), "laptop": (1366, 860), "wide": (1920, 1080)}
LOCALES = {"en": "en-GB", "zh": "zh-CN"}


@dataclass
class Visit:
    """A page, and everything that it complained of.

    Attributes:
        complaints: errors and warnings of the console (refused content, too), uncaught errors, requests elsewhere.
        album: where pictures go; None: none are taken.
    """

    page: Page
    address: str
    album: Path | None = None
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to listen."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _response(self, response: Response) -> None:
        if not response.url.startswith((self.address, "blob:", "data:")):
            self.complaints.append(f"asked elsewhere: {response.url}")

    def open(self, place: str = "") -> None:
        """Go to an address of the studio, as a fresh start."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/{place}")

    def chart(self, within: str = "#centre") -> None:
        """Wait until a chart is drawn."""
        self.page.locator(f"{within} .plot .main-svg").first.wait_for()
        self.page.locator(f"{within} .plot .cartesianlayer .trace").first.wait_for(state="attached")

    def picture(self, name: str) -> None:
        """Photograph the whole page, and check that nothing sticks out of it at the side."""
        self.page.evaluate("() => { scrollTo(0, 0); return document.fonts.ready }")
        width = self.page.evaluate("document.documentElement.scrollWidth")
        shown = self.page.viewport_size
        assert shown is not None
        assert width <= shown["width"], f"{name} is {width} px wide"
        if self.album is not None:
            self.page.screenshot(path=self.album / f"{name}.png", full_page=True)


def album(fallback: Path) -> Path:
    """Where pictures go: the folder of KRONOS_SCREENSHOTS, else one of the test's own."""
    folder = Path(os.environ.get("KRONOS_SCREENSHOTS", fallback))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def visit(
    browser: Browser, address: str, size: str = "laptop", language: str = "en", *, signed_in: bool = True, **more: Any
) -> Iterator[Visit]:
    """A page of its own: nothing stored, a language, a size."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, locale=LOCALES[language], reduced_motion="reduce", **more
    )
    try:
        context.set_default_timeout(30_000)
        if signed_in:
            answer = context.request.post(f"{address}/api/session", data={"token": TOKEN}, headers={"Origin": address})
            assert answer.ok, answer.text()
        found = Visit(context.new_page(), address)
        found.watch()
        yield found
    finally:
        context.close()


def drop(page: Page, path: Path) -> None:
    """Drag a file onto the page."""
    page.evaluate(
        """([name, text]) => {
            const data = new DataTransfer();
            data.items.add(new File([text], name, { type: "text/csv" }));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const details = { dataTransfer: data, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent(kind, details));
            }
        }""",
        [path.name, path.read_text()],
    )


def contrast(page: Page, ink: str, ground: str) -> float:
    """The contrast of two colours of the style sheet, WCAG 2."""
    first, second = (luminance(colour(page, name)) for name in (ink, ground))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def colour(page: Page, name: str) -> list[int]:
    """Red, green and blue of a name of the style sheet."""
    script = """name => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = `var(--${name})`;
        const found = getComputedStyle(probe).color;
        probe.remove();
        return found.match(/[\\d.]+/g).slice(0, 3).map(Number);
    }"""
    found: list[int] = page.evaluate(script, name)
    return found


def luminance(rgb: list[int]) -> float:
    """Relative luminance, WCAG 2."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
