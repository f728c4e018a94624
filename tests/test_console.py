"""Progress: plain lines with rate and time left where no terminal is, nothing for short work."""

import io

import pytest

from egoflow import console


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_lines_come_every_few_seconds_with_rate_and_time_left(clock: _Clock) -> None:
    text = io.StringIO()
    with console.progress(100, label="training", stream=text) as bar:
        for step in range(100):
            clock.now += 0.5
            bar.tell(loss=1 / (step + 1))
            bar.advance()
    lines = text.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0] == "training: 10/100  2.0/s  45 s left  loss 0.1"
    assert lines[-1] == "training: 100 in 50 s  loss 0.01"


def test_short_work_shows_nothing(clock: _Clock) -> None:
    text = io.StringIO()
    with console.progress(3, label="reading", stream=text) as bar:
        bar.advance(3)
    assert text.getvalue() == ""


def test_a_resumed_run_is_not_part_of_the_rate(clock: _Clock) -> None:
    text = io.StringIO()
    with console.progress(1000, label="training", stream=text) as bar:
        bar.skip(900)
        clock.now += 20
        bar.advance(10)
    assert text.getvalue().splitlines()[0] == "training: 910/1000  2.0 s each  3:00 left"


def test_unknown_length_and_failure(clock: _Clock) -> None:
    text = io.StringIO()

    def work() -> None:
        with console.progress(None, label="frames", stream=text) as bar:
            clock.now += 6
            bar.advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert text.getvalue().splitlines()[0] == "frames: 1  6.0 s each"
    assert " in " not in text.getvalue()


def test_track_yields_all(capsys) -> None:
    assert list(console.track([1, 2, 3], label="x")) == [1, 2, 3]
    assert list(console.track(iter("ab"), label="x", total=2)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = Terminal()
    with console.progress(4, label="rendering", stream=text) as bar:
        bar.advance(4)
        bar.tell(loss=0.25)
    assert "rendering" in text.getvalue()
    assert "4/4" in text.getvalue()
    assert "loss 0.25" in text.getvalue()


def test_say_and_note_go_to_their_streams(capsys) -> None:
    console.say("result")
    console.note("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (60, "1:00"), (185.4, "3:05"),
                                               (7800, "2:10:00"), (3599.6, "1:00:00")])
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text
