"""How long callers are waited for once the service stops, whichever transport they came by."""

from __future__ import annotations

# How long calls under way may take to finish, and then their answers to be taken; in seconds.
GRACE, LAST_GRACE = 10.0, 1.0
