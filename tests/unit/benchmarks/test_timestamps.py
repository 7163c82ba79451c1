from pathlib import Path

import pytest

from benchmarks.timestamps import TimestampReader, TimestampWriter


def test_half_written_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "17"
    reader = TimestampReader(tmp_path)
    reader.update()
    assert (reader.first, reader.lines) == (None, [])
    for text, handled in [
        ("1 20000000000\n5", (1, 20.0)),
        ("1 20000000000\n50 2", (1, 20.0)),
        ("1 20000000000\n50 23000000000", (1, 20.0)),
        ("1 20000000000\n50 23000000000\n", (50, 23.0)),
    ]:
        file.write_text(text)
        reader.update()
        assert reader.handled == handled
    assert reader.lines == [(1, 20.0), (50, 23.0)]


def test_processes_add_up(tmp_path: Path) -> None:
    (tmp_path / "17").write_text("1 20000000000\n50 23000000000\n")
    (tmp_path / "18").write_text("1 19000000000\n50 21000000000\n100 22000000000\n")
    (tmp_path / "19").write_text("")
    reader = TimestampReader(tmp_path)
    reader.update()
    assert (reader.first, reader.handled, reader.unrecorded) == (19.0, (150, 23.0), 147)


def test_drain_records_every_fiftieth_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TIMESTAMPS", str(tmp_path))
    writer, reader = TimestampWriter(), TimestampReader(tmp_path)
    for _ in range(120):
        writer.record()
    reader.update()
    assert [number for number, _ in reader.lines] == [1, 50, 100]


def test_latency_records_every_job_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TIMESTAMPS", str(tmp_path))
    monkeypatch.setenv("BENCH_EVERY_JOB", "1")
    writer, reader = TimestampWriter(), TimestampReader(tmp_path)
    for number in (7, 3):
        writer.record(number)
    reader.update()
    assert [number for number, _ in reader.lines] == [7, 3]
