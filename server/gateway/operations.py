"""What operators and load balancers ask over HTTP: `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

from server.gateway.answers import Answer
from server.operations.health import Health
from server.operations.metrics import Metrics


class Operations:
    """Answers at the paths of operators. `metrics` is None on a port that does not tell them."""

    def __init__(self, health: Health, metrics: Metrics | None) -> None:
        self._health = health
        self._metrics = metrics

    @property
    def draining(self) -> bool:
        """Whether callers should go elsewhere with their next request."""
        return self._health.draining

    def answer(self, path: str) -> Answer | None:
        """Returns the answer to a GET, or None where the path is none of these."""
        match path:
            case "/livez":
                return Answer(200, b'{"status":"live"}')
            case "/readyz" if self._health.ready:
                return Answer(200, b'{"status":"ready"}')
            case "/readyz":
                return Answer(503, b'{"status":"not ready"}')
            case "/metrics" if self._metrics is not None:
                return Answer(200, self._metrics.exposition(), content_type=Metrics.CONTENT_TYPE)
            case _:
                return None
