"""What readers of the API ask over HTTP: `/openapi.json`, and at `/docs` a page that shows it and tries it.

The page is Swagger UI, from the files of an installed package; no other host is asked for anything.
"""

from __future__ import annotations

import json
from typing import Any

from swagger_ui_bundle import swagger_ui_path

from server.gateway.answers import Answer

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Participants API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</body>
</html>
"""
# Swagger UI shows what its URL asks for only with queryConfigEnabled, which stays off.
SCRIPT = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""
# Swagger UI sets styles from its script and has images in its style sheet.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


class Docs:
    """Answers at the paths of readers, from memory."""

    def __init__(self, document: dict[str, Any]) -> None:
        javascript = FILES["swagger-ui-bundle.js"]
        self._files: dict[str, tuple[bytes, str]] = {
            "/openapi.json": (json.dumps(document, indent=1).encode(), "application/json"),
            "/docs": (PAGE.encode(), "text/html; charset=utf-8"),
            "/docs/page.js": (SCRIPT.encode(), javascript),
            **{f"/docs/{name}": ((swagger_ui_path / name).read_bytes(), kind) for name, kind in FILES.items()},
        }

    def answer(self, path: str) -> Answer | None:
        """Returns the answer to a GET, or None where the path is none of these."""
        if path not in self._files:
            return None
        body, content_type = self._files[path]
        return Answer(200, body, dict(SECURITY_HEADERS), content_type)
