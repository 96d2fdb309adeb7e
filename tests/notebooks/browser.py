"""JupyterLab in headless Chromium inside a simulated session: what a person does with a mouse, done by a program.

A session reaches nothing but itself, so the server, the browser and its driver all run in it. `LabPage` runs there
too, and the test calls it through a unix socket in the folder they share. Run as a program this file serves one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.integration.sessions import until
from tests.notebooks.kernels import NotebookTab, Opened
from tests.programs import find

__all__ = ["WAIT_S", "LabPage", "come_one_by_one", "open_lab"]

START_S = 90
ACT_S = 60
WAIT_S = 120  # for a node
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_ROOT = Path(__file__).resolve().parents[2]
_PORT = 8888
_GONE = (StaleElementReferenceException,)  # the page drew it anew
_KEY = b"raycolab"  # the socket lies in a folder that nobody else may open
# Nothing asks whether to fetch news, and every cell is on the page, not only those in view.
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


class LabPage:
    """One JupyterLab page; cells are named by the ids they have in the notebook's file."""

    def __init__(self, folder: str, pictures: str) -> None:
        """`folder` is what the server serves, `pictures` where screenshots go."""
        options = webdriver.ChromeOptions()
        for word in CHROMIUM:
            options.add_argument(word)
        service = webdriver.ChromeService(executable_path=find("chromedriver"))
        self._driver = webdriver.Chrome(options=options, service=service)
        self._folder = Path(folder)
        self._pictures = Path(pictures)
        self._cells: dict[str, int] = {}

    def open(self, name: str, width: int = 1200, height: int = 1400) -> None:
        """Open a notebook of the folder and wait for its kernel."""
        cells = json.loads((self._folder / name).read_text())["cells"]
        self._cells = {cell["id"]: index for index, cell in enumerate(cells)}
        self.resize(width, height)
        self._driver.get(f"http://127.0.0.1:{_PORT}/doc/tree/{name}?reset")
        self._wait(lambda: len(self._all(".jp-Notebook .jp-Cell")) == len(cells), "the notebook's cells", START_S)
        self._wait(lambda: self._all(".jp-Notebook-ExecutionIndicator[data-status=idle]"), "an idle kernel", START_S)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Make the page this large; `scale` is how many pixels of a picture one of these becomes."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def fill(self, name: str, value: Any) -> None:
        """Click into the line of a form field, `NAME = ...  # @param ...`, and paste the value in its place."""
        line = self._line(name)
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", line)
        old = line.text
        new = re.sub(r"(?<= = ).*?(?=  # @param)", lambda _: repr(value), old)
        line.click()
        keys = ActionChains(self._driver)
        keys.send_keys(Keys.HOME).key_down(Keys.SHIFT).send_keys(Keys.END).key_up(Keys.SHIFT).perform()
        self._driver.execute_cdp_cmd("Input.insertText", {"text": new})
        self._wait(lambda: self._line(name).text == new, f"{name} to become {value!r}, not {old!r}")

    def run_all(self) -> float:
        """Run > Run All Cells; gives the time of the click."""
        self._click(".lm-MenuBar-itemLabel", "Run")
        self._click(".lm-Menu-itemLabel", "Run All Cells")
        return time.time()

    def run(self, cell: str) -> None:
        """Run one cell, and wait until it has ended."""
        before = self._in(cell, ".jp-InputPrompt")[0].text
        self._in(cell, ".cm-content")[0].click()
        ActionChains(self._driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
        self._wait(lambda: self._in(cell, ".jp-InputPrompt")[0].text not in (before, "[*]:"), f"the end of {cell}")

    def save(self) -> None:
        """File > Save, and wait until the page has nothing unsaved."""
        self._click(".lm-MenuBar-itemLabel", "File")
        self._click(".lm-Menu-itemLabel", "Save Notebook")
        self._wait(lambda: not self._all(".jp-mod-dirty"), "the notebook to be saved")

    def selected(self, cell: str, css: str, timeout_s: float = ACT_S) -> str:
        """Click on something in a cell's output; gives the text that this selects on the page."""
        self._wait(lambda: self._in(cell, css), f"{css} in {cell}", timeout_s)
        found = self._in(cell, css)[0]
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()
        return str(self._driver.execute_script("return window.getSelection().toString()"))

    def wait_for(self, cell: str, pattern: str, timeout_s: float) -> str:
        """What a cell's outputs say, once a pattern is found in it."""
        self._wait(lambda: re.search(pattern, self.text(cell), re.DOTALL), f"{pattern!r} in {cell}", timeout_s)
        return self.text(cell)

    def text(self, cell: str) -> str:
        """What a cell's outputs say, as the page shows it."""
        return "\n".join(each.text for each in self._in(cell, ".jp-Cell-outputArea"))

    def rows(self, cell: str, table: str = "table") -> list[list[str]]:
        """The rows of the first table in a cell's outputs."""
        script = "return [...arguments[0].rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        found: list[list[str]] = self._driver.execute_script(script, self._in(cell, table)[0])
        return found

    def picture(self, name: str, cell: str | None = None, css: str = ".jp-Cell-outputArea") -> str:
        """Write NAME.png: the page as it is in view, or something in a cell, its outputs; gives its path."""
        path = self._pictures / f"{name}.png"
        if cell is None:
            self._driver.save_screenshot(str(path))
        else:
            shown = self._in(cell, css)[0]
            self._driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", shown)
            shown.screenshot(str(path))
        return str(path)

    def reload(self) -> None:
        """Load the page again."""
        self._driver.refresh()
        count = len(self._cells)
        self._wait(lambda: len(self._all(".jp-Notebook .jp-Cell")) == count, "the notebook's cells", START_S)

    def close(self) -> None:
        """End the browser."""
        self._driver.quit()

    def _all(self, css: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, css)

    def _in(self, cell: str, css: str) -> list[WebElement]:
        return self._all(".jp-Notebook .jp-Cell")[self._cells[cell]].find_elements(By.CSS_SELECTOR, css)

    def _line(self, name: str) -> WebElement:
        found = [each for each in self._all(".jp-CodeCell .cm-line") if each.text.startswith(f"{name} = ")]
        assert len(found) == 1, f"the page has {len(found)} form fields called {name}"
        return found[0]

    def _click(self, css: str, text: str) -> None:
        def found() -> WebElement | None:
            return next((each for each in self._all(css) if each.is_displayed() and each.text == text), None)

        self._wait(found, f"{text!r} to click")
        each = found()
        assert each is not None
        each.click()

    def _wait(self, true: Callable[[], Any], what: str, timeout_s: float = ACT_S) -> None:
        try:
            WebDriverWait(self._driver, timeout_s, ignored_exceptions=_GONE).until(lambda _: true())
        except Exception as error:
            self.picture("failed")
            page = self._driver.find_element(By.TAG_NAME, "body").text
            raise AssertionError(f"no {what} within {timeout_s:g} s; failed.png shows:\n{page}") from error


class _Pages(BaseManager):
    LabPage: Callable[[str, str], LabPage]


_Pages.register("LabPage", LabPage)


def open_lab(tab: NotebookTab, pictures: Path) -> LabPage:
    """Start JupyterLab and a browser in the session; what it gives is a page there, and ends with the session."""
    folder = tab.tab.folder / f"{tab.name}-lab"
    config, log, socket = folder / "config", folder / "lab.log", tab.tab.folder / f"{tab.name}.page"
    for name, settings in _SETTINGS.items():
        path = config / "lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    lab = [
        *(sys.executable, "-P", "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={_PORT}"),
        *("--ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={tab.tab.folder}"),
    ]
    browser = [sys.executable, "-m", "tests.notebooks.browser", str(socket)]
    dressed = tab.dressed(lab, {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(config)})
    tab.tab.spawn(dressed, tab.tab.folder, os.environ, log)
    tab.tab.spawn(browser, _ROOT, {**os.environ, "HOME": str(folder)}, log)
    until(lambda: "is running at" in log.read_text() and socket.exists(), START_S, log.read_text)
    pages = _Pages(address=str(socket), authkey=_KEY)
    pages.connect()
    return pages.LabPage(str(tab.tab.folder), str(pictures))


def come_one_by_one(head: LabPage, joiners: Sequence[Opened], present: int = 0, wait_s: float = WAIT_S) -> None:
    """Run joiner notebooks as a person does, each when the head's page shows the one before; `present` are there.

    Ray gives a node 30 s to start: five that start at once on two CPUs may all exceed them.
    """
    for number, each in enumerate(joiners, present + 1):
        each.start()
        head.wait_for("start", rf"\bjoiner-{number}\s+up\b", wait_s)


if __name__ == "__main__":
    _Pages(address=sys.argv[1], authkey=_KEY).get_server().serve_forever()
