"""The page at /docs, in a real browser where there is one, and what switches it off.

SCREENSHOT=FILE.png keeps a picture of the page once it has been tried.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import Deployment, deployed
from tests.support import loopback

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATHS = ["/docs", "/docs/page.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json"]


@pytest.mark.parametrize("path", PATHS)
def test_they_need_no_key_and_ask_no_other_host(deployment: Deployment, path: str) -> None:
    response = loopback.get(deployment.service.http_url + path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*", policy)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "://" not in response.text or path != "/docs"
    assert loopback.post(deployment.service.http_url + path).status_code == 405


def test_off_removes_them(new_database: Callable[[], AbstractContextManager[str]]) -> None:
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_DOCS="off") as running:
        for path in PATHS:
            response = loopback.get(running.service.http_url + path)
            assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1200, "height": 1400}
        )
        browser.set_default_timeout(20_000)
        yield browser.pages[0]
        browser.close()


def test_a_reader_tries_an_upsert(page: Page, deployment: Deployment) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    url = deployment.service.http_url
    page.goto(f"{url}/docs")
    page.get_by_role("button", name="Authorize").click()
    page.locator("#api_key_value").fill(deployment.tenant.key)
    page.get_by_label("Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    operation = page.locator("[id$=-CreateParticipant]")
    operation.locator("button.opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill('{"external_id": "from the page", "tags": ["VIP"]}')
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("201")
    expect(answer).to_contain_text('"external_id": "from the page"')
    expect(answer).to_contain_text('"vip"')
    if "SCREENSHOT" in os.environ:
        page.screenshot(path=os.environ["SCREENSHOT"])
    assert complaints == []
    assert {re.sub(r"(?<=\d)/.*", "", address) for address in asked if not address.startswith("data:")} == {url}
