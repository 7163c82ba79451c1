"""What the platform side's tests share: a function that records."""

import pytest

from support.functions import RecordingFunction


@pytest.fixture
def function() -> RecordingFunction:
    return RecordingFunction()
