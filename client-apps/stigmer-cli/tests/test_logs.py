from __future__ import annotations

import re
from pathlib import Path

from stigmer_cli.stack.logs import Follower, RotatingLog, components, merge, tail


def test_every_line_gets_a_time_even_when_it_comes_in_pieces(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log")
    for chunk in (b"fir", b"st\nsecond\r\nlast"):
        log.feed(chunk)
    log.close()
    lines = log.path.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line) for line in lines)
    assert tail(log.path, 9) == ["first", "second", "last"]


def test_a_full_log_is_rotated_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", max_bytes=200, kept_files=2)
    for number in range(40):
        log.write(f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * 300
    assert tail(log.path, 1) == ["line 39"]
    assert components(tmp_path) == ["a"]


def test_files_are_merged_by_time_and_cut_by_it(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").write_text("2026-01-01T00:00:01.000Z a1\n")
    (tmp_path / "a.log").write_text("2026-01-01T00:00:03.000Z a3\n  belongs to a3\n")
    (tmp_path / "b.log").write_text("2026-01-01T00:00:02.000Z b2\n2026-01-01T00:00:04.000Z b4\n")
    merged = [line.rpartition("Z ")[2] for _, line in merge(tmp_path, ["a", "b"])]
    assert merged == ["a1", "b2", "a3", "  belongs to a3", "b4"]
    since = [name for name, _ in merge(tmp_path, ["a", "b"], since="2026-01-01T00:00:03.000Z")]
    assert since == ["a", "a", "b"]


def test_a_follower_sees_what_is_added_through_a_rotation(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", max_bytes=10)
    log.write("before")
    follower = Follower(log.path)
    assert follower.read() == []
    for text in ("one", "two"):
        log.write(text)
    log.close()
    assert [line.rpartition("Z ")[2] for line in follower.read()] == ["one", "two"]
    follower.close()


def test_a_follower_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "a.log")
    assert follower.read() == []
    (tmp_path / "a.log").write_text("whole\npart")
    assert follower.read() == ["whole"]
    follower.close()
