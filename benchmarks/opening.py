"""How long a report takes to open in Chromium, as the first page of a browser just started.

    python -m benchmarks.opening runs/scale/report.html

What a browser takes to start is not counted.
"""

from __future__ import annotations

import os
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from selenium import webdriver

__all__ = ["Opening", "headless", "opened"]

# Resolved in the frame after the one that has the last figure.
_DRAWN = """
const done = arguments[0];
const drawn = () => [...document.querySelectorAll(".plot")].every((it) => it.querySelector("svg"));
const [told] = performance.getEntriesByType("navigation");
const look = () => {
  // On a busy machine the page may have loaded before its first frame is shown.
  const [text] = performance.getEntriesByName("first-contentful-paint");
  if (!drawn() || !told.loadEventEnd || !text) return setTimeout(look, 5);
  requestAnimationFrame(() => setTimeout(() =>
    done([text.startTime, told.loadEventEnd, performance.now()].map((it) => it / 1000))));
};
look();
"""

_PATIENCE = 600
"""Seconds for the last figure, where a driver by itself gives up after 30."""


@dataclass(frozen=True)
class Opening:
    """Of a page, in seconds."""

    text: float
    """From the navigation to the first text on the screen."""
    load: float
    """From the navigation to the end of the load event."""
    figures: float
    """From the navigation to the frame with the last figure."""
    cpu: float
    """Of a processor, by the main thread of the page."""


def headless(chromium: str) -> webdriver.ChromeOptions:
    """How that Chromium is started where there is no screen, as root, too."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it.
    return options


def opened(page: Path) -> Opening:
    """Open a page in a browser of its own.

    Raises:
        RuntimeError: there is no Chromium here, or no driver of it.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise RuntimeError("no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    options = headless(chromium)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.set_script_timeout(_PATIENCE)
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.get(page.absolute().as_uri())
        text, load, figures = browser.execute_async_script(_DRAWN)
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        taken = {metric["name"]: float(metric["value"]) for metric in metrics}
        return Opening(text, load, figures, cpu=taken["TaskDuration"])
    finally:
        browser.quit()


def main(
    page: Annotated[Path, typer.Argument(help="A report.")],
    times: Annotated[int, typer.Option(help="Browsers, one after the other.")] = 5,
) -> None:
    """Open a report again and again, and print medians with the least and the most."""
    openings = [opened(page) for _ in range(times)]
    print(f"{page}: {page.stat().st_size / 1e6:.2f} MB, {times} times")
    for name in ("text", "load", "figures", "cpu"):
        seconds = sorted(getattr(opening, name) for opening in openings)
        median = statistics.median(seconds)
        print(f"{name:8} {median:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})")


if __name__ == "__main__":
    typer.run(main)
