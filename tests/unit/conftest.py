"""What the unit tests share: how Hypothesis tells that a test is at fault."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Where the processors are busy, any step may take long, which says nothing of the test.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
