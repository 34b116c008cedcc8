"""A real browser without a window."""

import shutil
from contextlib import contextmanager

import pytest

_FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "hide-scrollbars",
)  # fmt: skip


@contextmanager
def chromium(profile):
    """A driver of headless Chromium with a profile of its own; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("the page's tests need chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def show(chrome, page, width=1280, dark=False):
    """Open a page at a width."""
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    chrome.get(page.as_uri())
    drawn = "return document.readyState === 'complete'"
    WebDriverWait(chrome, 20).until(lambda driver: driver.execute_script(drawn))


def click(chrome, element):
    from selenium.webdriver import ActionChains

    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(chrome).move_to_element(element).click().perform()


def found(chrome, selector):
    return chrome.find_elements("css selector", selector)
