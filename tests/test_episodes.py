"""Episodes: what is drawn, what never is, and what bad samples are told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2l.errors import UserError
from v2l.tasks.episodes import sample_episodes


def images(classes: int, each: int, query_each: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Splits and class names of `classes` classes with `each` training and `query_each` validation images."""
    names = np.array([f"class {index:02d}" for index in range(classes) for _ in range(each + query_each)])
    splits = np.array((["train"] * each + ["val"] * query_each) * classes)
    return splits, names


@settings(max_examples=60, deadline=None)
@given(
    ways=st.integers(2, 6),
    inner_shots=st.integers(1, 5),
    seed=st.integers(0, 1000),
    query_split=st.sampled_from(["train", "val"]),
)
def test_an_episode_never_shows_its_query(ways, inner_shots, seed, query_split):
    split, name = images(classes=7, each=6)
    for episode in sample_episodes(split, name, ways, inner_shots, 5, "train", query_split, seed):
        assert episode.query not in episode.support
        assert len(set(episode.support)) == ways * inner_shots
        assert len(set(episode.class_names)) == ways and episode.class_names == sorted(episode.class_names)
        assert episode.target in episode.class_names and name[episode.query] == episode.target
        assert split[episode.query] == query_split
        shown = [episode.class_names[label] for label in episode.support_labels]
        assert shown == name[episode.support].tolist()
        assert np.bincount(episode.support_labels).tolist() == [inner_shots] * ways


def test_episodes_depend_on_seed_and_number_alone():
    split, name = images(classes=7, each=6)
    few = sample_episodes(split, name, 3, 2, 4, "train", "val", 7)
    many = sample_episodes(split, name, 3, 2, 9, "train", "val", 7)
    assert many[:4] == few
    assert sample_episodes(split, name, 3, 2, 4, "train", "val", 8) != few


def test_more_inner_shots_ask_the_same_question_and_show_more():
    split, name = images(classes=7, each=6)
    one = sample_episodes(split, name, 4, 1, 6, "train", "train", 0)
    three = sample_episodes(split, name, 4, 3, 6, "train", "train", 0)
    for small, large in zip(one, three, strict=True):
        assert (small.query, small.class_names) == (large.query, large.class_names)
        assert set(small.support) < set(large.support)


def test_a_class_without_query_images_is_never_the_target():
    split, name = images(classes=3, each=3)
    split[name == "class 01"] = "train"
    drawn = sample_episodes(split, name, 3, 2, 30, "train", "val", 0)
    assert {episode.target for episode in drawn} == {"class 00", "class 02"}


def test_a_class_with_too_few_images_is_named():
    split, name = images(classes=3, each=3)
    with pytest.raises(UserError, match=r"class 'class 00' has 3 images in split 'train'.*at least 4 .* and a query"):
        sample_episodes(split, name, 2, 3, 1, "train", "train", 0)
    with pytest.raises(UserError, match=r"'class 00' has 3 images.*at least 5 for 2-way episodes with 5 inner shots\."):
        sample_episodes(split, name, 2, 5, 1, "train", "val", 0)


def test_too_few_classes_are_told():
    split, name = images(classes=3, each=3)
    with pytest.raises(UserError, match="3 classes have images.*at least 5 classes"):
        sample_episodes(split, name, 5, 1, 1, "train", "val", 0)
    with pytest.raises(UserError, match=r"0 in split 'test'.*name other splits"):
        sample_episodes(split, name, 2, 1, 1, "train", "test", 0)
