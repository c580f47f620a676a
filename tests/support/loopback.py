"""HTTP without TLS, as tests speak it with services on this machine.

For every client, httpx reads whom the world trusts to sign certificates, also for one that meets none: that takes
20 ms, many times as long as a call.
"""

from __future__ import annotations

from functools import partial

import httpx

Client = partial(httpx.Client, verify=False)
get, post, request = (partial(call, verify=False) for call in (httpx.get, httpx.post, httpx.request))
