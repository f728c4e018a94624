"""The table of a comparison: means, half the range over seeds, what single trainings need to have said of them."""

from egoflow.report.compare_page import chosen_frames
from egoflow.report.compare_table import Line, Table, Training
from egoflow.worlds.base import load_world


def ended(seed: int, *, steps: int = 100, status: str = "trained", message: str = "") -> Training:
    return Training(method="a:tiny", seed=seed, status=status, steps=steps, planned=100,  # type: ignore[arg-type]
                    seconds=9.0, message=message)


def table() -> Table:
    lines = [Line(name="a:tiny", trainings=[ended(0), ended(1, steps=68), ended(2, status="failed", message="NaN")],
                  seeds=[{"abs_rel": 0.2, "mover_iou": None}, {"abs_rel": 0.3, "mover_iou": 0.5}]),
             Line(name="constant depth", seeds=[{"abs_rel": 0.4}])]
    return Table(name="unseen", words={"crop": "none"}, lines=lines)


def test_means_and_spread_stand_in_every_form() -> None:
    found = table()
    assert found.cells() == [["", "steps", "done (%)", "abs_rel", "mover IoU"],
                             ["a:tiny", "84 ± 16", "84 ± 16", "0.250 ± 0.050", "0.500 ± 0.000"],
                             ["constant depth", "-", "-", "0.400", "-"]]
    assert "| a:tiny | 84 ± 16 | 84 ± 16 | 0.250 ± 0.050 | 0.500 ± 0.000 |" in found.markdown()
    text = found.text()
    assert "±0.050" in text
    assert max(map(len, text.splitlines())) <= 120
    method, baseline = found.json()["rows"]
    assert method["values"]["abs_rel"] == {"mean": 0.25, "low": 0.2, "high": 0.3}
    assert (method["kind"], baseline["kind"]) == ("method", "baseline")
    assert method["trainings"][1]["steps"] == 68


def test_an_unfinished_schedule_and_a_failure_are_told() -> None:
    remarks = table().remarks()
    assert remarks == ["a:tiny, seed 1: the time was over at step 68 of 100; its schedule did not end",
                       "a:tiny, seed 2 failed: NaN"]
    assert all(remark in form for remark in remarks for form in (table().text(), table().markdown()))


def test_the_frames_shown_are_among_those_that_are_scored_and_have_a_later_one() -> None:
    worlds = [load_world("drive", frames=frames, height=24, width=64) for frames in (9, 12)]
    shown = chosen_frames("unseen", worlds, gap=4)
    assert [(frame.number, frame.index) for frame in shown] == [(0, 0), (1, 0), (1, 4)]
    assert all(frame.gap == 4 and frame.index + 4 < len(worlds[frame.number]) for frame in shown)
