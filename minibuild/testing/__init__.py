"""Contract suites for what others may add: subclass one in your tests, give its fixtures, run pytest.

    from minibuild.testing.cache import CacheBackendContract

    class TestMyCache(CacheBackendContract):
        @pytest.fixture
        def open_cache(self, tmp_path):
            return lambda: MyCache(tmp_path)

minibuild's own caches, exporters and sandboxes are tested by the same classes.
"""

import pytest

pytest.register_assert_rewrite(
    "minibuild.testing.cache", "minibuild.testing.executors", "minibuild.testing.exporters"
)
