"""What is held out of several sources."""

from dataclasses import replace

import pytest

from egoflow.config import DataConfig
from egoflow.training.session import open_sources, split_sources

DATA = DataConfig(paths=("world:chairs?scenes=20&seed=5",), height=16, width=16, validation=0.1)


def test_whole_scenes_are_held_out_of_a_set_of_pairs() -> None:
    sources = open_sources(DATA)
    training, held_out = split_sources(DATA, sources)
    assert (len(training), len(held_out)) == (18, 2)
    assert {s.name for s in training} & {s.name for s in held_out} == set()
    assert [sources.index(s) for s in held_out] == [5, 15]


@pytest.mark.parametrize("looks", [("sintel/training/clean", "sintel/training/final"),
                                   ("things/frames_cleanpass/TRAIN", "things/frames_finalpass/TRAIN")])
def test_both_looks_of_a_scene_are_held_out_together(looks: tuple[str, str]) -> None:
    sources = open_sources(DATA)
    for number, source in enumerate(sources):
        source.name = f"{looks[number % 2]}/scene_{number // 2}"
    training, held_out = split_sources(replace(DATA, validation=0.2), sources)
    assert {s.name.rpartition("/")[2] for s in training} & {s.name.rpartition("/")[2] for s in held_out} == set()
    assert len(held_out) == 4
    assert len({s.name.rpartition("/")[2] for s in held_out}) == 2
