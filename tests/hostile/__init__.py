"""What strangers and single callers try, and may not achieve: to hurt the others."""

import pytest

# Asserts, and is no test: so that what it asserts is shown where it fails.
pytest.register_assert_rewrite("tests.hostile.others")
