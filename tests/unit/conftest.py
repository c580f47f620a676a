"""What the unit tests share: how Hypothesis tells that a test is at fault, and the garbage collector's absence."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Where the processors are busy, any step may take long, which says nothing of the test.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Has no garbage collected but by reference counts: what a test leaves in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
