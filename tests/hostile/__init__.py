"""What strangers and single callers try, and may not achieve: to hurt the others."""

import pytest

# They assert, and are no tests: so that what they assert is shown where it fails.
pytest.register_assert_rewrite("tests.hostile.others", "tests.hostile.crowd")
