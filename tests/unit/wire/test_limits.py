import pytest

from jobfn.wire import Failure, task_url


def test_traceback_of_a_failure_keeps_its_end() -> None:
    assert Failure.from_json(b'{"traceback": "%bend"}' % (b"x" * 500_000)).traceback == "x" * 16_381 + "end"


@pytest.mark.parametrize("value", ["", "null", "7", '""', '["x"]'])
def test_traceback_that_is_not_a_text_is_ignored(value: str) -> None:
    body = f', "traceback": {value}' if value else ""
    assert Failure.from_json(f'{{"error": "boom"{body}}}'.encode()) == Failure("boom")


def test_error_of_a_failure_has_at_most_10_000_characters() -> None:
    assert Failure.from_json(b'{"error": "%b"}' % (b"x" * 1_000_000)).error == "x" * 10_000
    assert Failure.from_json(b'{"message": ["%b"]}' % (b"x" * 20_000)).error == '["' + "x" * 9_998


@pytest.mark.parametrize(("task", "path"), [(".", "%252E"), ("..", "%252E%252E"), ("...", "..."), ("a..", "a..")])
def test_relative_paths_are_not_sent(task: str, path: str) -> None:
    assert task_url("http://h/base", task) == f"http://h/base/{path}"
    assert task_url("http://h/{task}/run", task) == f"http://h/{path}/run"
