"""Times of an image's configuration, as RFC 3339 has them."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minibuild.engine.assemble import rfc3339


@given(st.floats(-6e10, 2.5e11) | st.integers(-(10**9), 10**10))
@example(1_700_000_000.9999999)
@example(-0.25)
@example(1_700_000_000.0000005)
def test_a_time_is_written_as_datetime_would(seconds):
    moment = datetime.fromtimestamp(seconds, UTC)
    written = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    assert rfc3339(seconds) == written + "Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1.5, "1970-01-01T00:00:01.5Z"),
        (1_709_210_096.25, "2024-02-29T12:34:56.25Z"),
    ],
)
def test_a_fraction_is_written_where_there_is_one(seconds, text):
    assert rfc3339(seconds) == text
