from pathlib import Path

import pytest

from tools.prose_check import check, main


def phrases(name: str, text: str) -> list[tuple[int, str]]:
    return [(number, phrase) for number, phrase, _ in check(Path(name), text)]


@pytest.mark.parametrize(
    "line",
    [
        "the payload is no JSON",
        "there are jobs, which are none of its business",
        "so long may one statement take",
        "So many are kept.",
        "failed for good",
        "it works as ever",
        "a sign of life",
        "jobs in hand",
        "the job is given back",
        "it lets go of the lock",
        "the worker is told",
        "it says so",
        "whoever asks",
        "a process of its own",
        "What came is read.",
        "Who died is found.",
        "work is under way",
        "it was taken back",
    ],
)
def test_phrase_is_found(line: str) -> None:
    assert len(phrases("page.md", line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "there is no job",
        "it is no longer running",
        "What happens next?",
        "What to do",
        "That is a heartbeat.",
        "As long as it runs, its own lock is renewed.",
    ],
)
def test_plain_english_is_not_found(line: str) -> None:
    assert phrases("page.md", line) == []


def test_python_code_is_not_prose_but_comments_and_strings_are() -> None:
    text = '"""Doc.\n\nIt says so."""\nx = 1  # told of it\ny = f"{x} as ever"\nsays so\n'
    assert phrases("module.py", text) == [(3, "says so"), (4, "told of"), (5, "as ever")]


def test_sql_code_is_not_prose_but_comments_and_literals_are() -> None:
    text = "says so;\n-- says so\nraise 'as ever';\n"
    assert phrases("function.sql", text) == [(2, "says so"), (3, "as ever")]


def test_marker_allows_its_line_and_the_next_one() -> None:
    text = "x = 1  # says so, prose: allow\n# prose: allow\n# says so\n# says so\n"
    assert phrases("module.py", text) == [(4, "says so")]


def test_command_prints_places_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, script = tmp_path / "page.md", tmp_path / "script.sh"
    page.write_text("fine\nit says so\n")
    script.write_text("# says so\n")
    assert main([str(page), str(script)]) == 1
    assert capsys.readouterr().out.startswith(f"{page}:2: 'says so': ")
    page.write_text("fine\n")
    assert main([str(page)]) == 0


def test_missing_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nofile.md"]) == 2
    assert capsys.readouterr().err == "no file nofile.md: pass the files to check\n"
