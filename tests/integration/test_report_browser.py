"""The report in a real browser: figures drawn, no errors, no script of a model's making."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_comparisons import make_comparison
from made_runs import SCRIPT, make_run
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.opening import headless
from tspin.compare.page import write_page
from tspin.report.page import write_report

pytestmark = pytest.mark.integration

REQUIRED = os.environ.get("TSPIN_REQUIRE_BROWSER") == "1"
SECONDS = 600
"""For what takes one or two here: a busy machine is many times slower."""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "no chromium and chromedriver here (Debian: chromium, chromium-driver)"
        if REQUIRED:
            pytest.fail(f"TSPIN_REQUIRE_BROWSER is 1, but there is {reason}")
        pytest.skip(reason)
    options = headless(chromium)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(SECONDS)
    # Whatever a page wanted to fetch would fail, and say so in the log.
    chrome.execute_cdp_cmd("Network.enable", {})
    chrome.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> webdriver.Chrome:
    """The report of a whole T-SPIN run."""
    show(browser, write_report(make_run(tmp_path_factory.mktemp("runs") / "tspin")))
    return browser


def show(browser: webdriver.Chrome, path: Path) -> None:
    browser.get("about:blank")
    console(browser)
    browser.get(path.as_uri())
    WebDriverWait(browser, SECONDS).until(lambda it: all(drawn_shapes(it).values()))


def console(browser: webdriver.Chrome) -> list[str]:
    """What the page has said and been told off for; an entry may come a while after its cause."""
    last = "all that was said before has come"
    browser.execute_script("console.error(arguments[0])", last)
    messages: list[str] = []

    def complete(_: webdriver.Chrome) -> bool:
        messages.extend(entry["message"] for entry in browser.get_log("browser"))
        return any(last in message for message in messages)

    WebDriverWait(browser, SECONDS).until(complete)
    return [message for message in messages if last not in message]


def drawn_shapes(browser: webdriver.Chrome) -> dict[str, int]:
    """By figure, the curves, points and bars that are really there: SVG paths with an extent."""
    found: dict[str, int] = browser.execute_script(
        """
        const drawn = (path) => path.getBoundingClientRect().width > 0;
        const count = (plot) =>
          [...plot.querySelectorAll("svg :is(.scatterlayer, .barlayer) .trace path[d]")]
            .filter(drawn).length;
        const plots = [...document.querySelectorAll("[data-figure]")];
        return Object.fromEntries(plots.map((plot) => [plot.id, count(plot)]));
        """
    )
    return found


def test_every_figure_is_drawn(page: webdriver.Chrome) -> None:
    shapes = drawn_shapes(page)
    assert len(shapes) == len(page.find_elements(By.CSS_SELECTOR, "figure")) == 17
    assert all(shapes.values()), shapes
    for plot in page.find_elements(By.CSS_SELECTOR, "[data-figure]"):
        assert plot.rect["width"] > 300
        assert plot.find_element(By.CSS_SELECTOR, "svg .xtick text").text


def test_figures_are_drawn_behind_the_page_and_before_it_is_printed(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    script = """
        addEventListener("DOMContentLoaded", () => {
          const drawn = () => document.querySelectorAll(".plot:has(svg .xtick)").length;
          window.drawnAt = [drawn()];
          dispatchEvent(new Event("beforeprint"));
          window.drawnAt.push(drawn());
          dispatchEvent(new Event("afterprint"));
        });
    """
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        show(browser, write_report(make_run(tmp_path / "tspin")))
        shown, printed = browser.execute_script("return window.drawnAt")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert shown < printed == 17
    assert console(browser) == []


def test_the_console_is_silent(page: webdriver.Chrome) -> None:
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert console(page) == []


def test_what_a_model_wrote_is_shown_as_text(page: webdriver.Chrome) -> None:
    assert page.title == "demo \u00b7 tspin report"
    samples = page.find_elements(By.CSS_SELECTOR, ".sample .proto_synthetic .text")
    assert len(samples) == 3 + 6  # Held out, and trained on.
    for sample in samples:
        assert SCRIPT in (sample.get_property("textContent") or "")
        assert sample.find_elements(By.CSS_SELECTOR, "*") == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_any_width_in_dark_and_light(
    page: webdriver.Chrome, width: int, scheme: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        WebDriverWait(page, SECONDS).until(
            lambda it: it.execute_script(
                "return [...document.querySelectorAll('[data-figure] svg')]"
                ".every((svg) => svg.getBoundingClientRect().width <= arguments[0])",
                width,
            )
        )
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        # Side by side on a desk, one below the other on a phone.
        shares = [it.rect["width"] / width for it in page.find_elements(By.CSS_SELECTOR, "figure")]
        assert min(shares) > 0.85 if width < 600 else sum(share < 0.5 for share in shares) > 5
        paper = "return getComputedStyle(document.body).backgroundColor"
        ink = "return getComputedStyle(document.querySelector('.xtick text')).fill"
        light, dark = luminance(page.execute_script(paper)), luminance(page.execute_script(ink))
        brighter, darker = max(light, dark), min(light, dark)
        assert (light > dark) == (scheme == "light")
        assert (brighter + 0.05) / (darker + 0.05) > 4.5  # WCAG 2.2, contrast of text
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("method", ["spin", "sft"])
def test_other_methods_are_drawn_without_errors(
    browser: webdriver.Chrome, tmp_path: Path, method: str
) -> None:
    show(browser, write_report(make_run(tmp_path / method, iterations=2, method=method)))
    shapes = drawn_shapes(browser)
    assert len(shapes) >= 8
    assert all(shapes.values()), shapes
    assert console(browser) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_a_comparison_is_drawn_without_errors(
    browser: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        arms = ("tspin@0.25", "spin@0.25", "sft_matched@0.25", "sft@0.25", "mine=tspin", "sft")
        write_page(make_comparison(*arms), tmp_path / "compare.html")
        show(browser, tmp_path / "compare.html")
        shapes = drawn_shapes(browser)
        sections = {name.partition("-")[0] for name in shapes}
        assert sections == {"evaluation", "efficiency", "training", "gaps"}
        assert all(shapes.values()), shapes
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        # A long legend leaves room for what it explains.
        plots = browser.find_elements(By.CSS_SELECTOR, "[data-figure] svg .nsewdrag")
        assert min(plot.rect["height"] for plot in plots) > 90
        assert console(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_log_would_have_told(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """What the silence above is worth: errors and refused scripts do end up in the log."""
    run = make_run(tmp_path / "broken", iterations=1)
    path = write_report(run)
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace("</header>", f"</header>{SCRIPT}", 1), encoding="utf-8")
    browser.get(path.as_uri())
    assert any("Content Security Policy" in message for message in console(browser))
    assert browser.title == "demo \u00b7 tspin report"


def luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2.2 defines it."""
    shares = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
