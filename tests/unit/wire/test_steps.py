import pytest

from jobfn.wire.steps import StepRecord


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (90, 90.0),
        (0.5, 0.5),
        (-1, 0.0),
        (-1e300, 0.0),
        pytest.param(-(10**400), 0.0, id="-10**400"),
        (1e300, 3_155_760_000.0),
        pytest.param(10**400, 3_155_760_000.0, id="10**400"),
    ],
)
def test_duration_of_a_sleep_is_limited(seconds: float, expected: float) -> None:
    record = StepRecord.from_json({"position": 1, "name": "sleep", "kind": "sleep", "seconds": seconds})
    assert record.spec == {"seconds": expected}
