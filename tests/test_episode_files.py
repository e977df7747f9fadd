"""Episodes from files: both layouts, and what a bad entry is told."""

import json

import numpy as np
import pytest

from v2l.errors import UserError
from v2l.tasks.episode_files import read_episodes

IMAGES = np.array(
    [f"real_name_mi/task_{n}.jpg" for n in range(4)] + [f"images/n{c}/n{c}_{n}.JPEG" for c in "123" for n in range(3)]
)
NAMES = np.array(["all"] * 4 + [name for name in ("king crab", "lion", "bus") for _ in range(3)])


def entry(**changes) -> dict:
    return {
        "image_1": "task_0.jpg",
        "caption_1": "This is a king crab.",
        "image_2": "task_1.jpg",
        "caption_2": "This is an oboe",
        "question": "What is this? This is a",
        "question_image": "task_2.jpg",
        "answer": "oboe",
    } | changes


def read(tmp_path, content, suffix=".json", ways=2, inner_shots=1):
    path = tmp_path / f"episodes{suffix}"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_episodes(path, IMAGES, NAMES, ways, inner_shots)


def test_json_of_the_real_name_task(tmp_path):
    first, second = read(tmp_path, [entry(), entry(answer=["king crab"], question_image="x/task_3.jpg")])
    assert first.class_names == ["king crab", "oboe"] and first.support == [0, 1] and first.support_labels == [0, 1]
    assert (first.query, first.target, first.number) == (2, "oboe", 0)
    assert (second.query, second.target, second.number) == (3, "king crab", 1)


def test_names_in_either_normal_form_are_one_class(tmp_path):
    changes = {"caption_1": "This is a cafe\u0301.", "answer": "caf\u00e9"}
    (episode,) = read(tmp_path, "\ufeff" + json.dumps([entry(**changes)]))
    assert episode.class_names == ["caf\u00e9", "oboe"] and episode.target == "caf\u00e9"


def test_captions_that_are_names_alone(tmp_path):
    (episode,) = read(
        tmp_path, [entry(caption_1="dax", caption_2="blicket", question="", answer="dax") | {"question": "?"}]
    )
    assert episode.class_names == ["blicket", "dax"] and episode.target == "dax"


def test_csv_of_the_released_code(tmp_path):
    text = "n1/n1_0.JPEG,n2/n2_1.JPEG,n1/n1_2.JPEG,n2/n2_0.JPEG,n2/n2_2.JPEG,\n\n"
    (episode,) = read(tmp_path, text, ".csv", inner_shots=2)
    assert IMAGES[episode.support].tolist() == [f"images/{name}" for name in text.strip().split(",")[:4]]
    assert episode.class_names == ["king crab", "lion"] and episode.support_labels == [0, 1, 0, 1]
    assert IMAGES[episode.query] == "images/n2/n2_2.JPEG" and episode.target == "lion"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_2": "task_9.jpg"}, "episode 1: image task_9.jpg is not among the images of the sample"),
        ({"question_image": "task_0.jpg"}, "episode 1: its query is among its examples"),
        ({"answer": ["oboe", "king crab"]}, "episode 1: its answer is a list of 2, one is due"),
        ({"answer": []}, "episode 1: its answer is a list of 0, one is due"),
        ({"answer": "lion"}, "episode 1: its answer 'lion' is none of its classes .king crab, oboe."),
        ({"answer": 3}, "episode 1: an image, caption, question or answer is no text"),
        ({"caption_3": "This is a bus"}, "episode 1: it has 2 images and 3 captions"),
        (
            {"image_3": "task_3.jpg", "caption_3": "This is a bus"},
            "it shows 3 images before the query, 2 x 1 = 2 are due",
        ),
        ({"caption_2": "This is a king crab"}, "episode 1: its classes have these numbers of images: king crab: 2"),
    ],
)
def test_a_bad_entry_is_named_with_its_file_and_reason(tmp_path, changes, reason):
    with pytest.raises(
        UserError, match=rf"episodes\.json, {reason}" if reason.startswith("episode") else reason
    ) as told:
        read(tmp_path, [entry(), entry(**changes)])
    assert "an episode of 2 ways and 1 inner shots" in str(told.value)


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("[{", ".json", r"episodes\.json is not JSON"),
        ("[" * 100_000, ".json", r"episodes\.json is not JSON"),
        ('{"a": 1}', ".json", r"episodes\.json holds dict, no list"),
        ("[]", ".json", r"episodes\.json holds no episodes"),
        ("[3]", ".json", r"episodes\.json, episode 0: it is int, no object"),
        ('[{"image_1": "task_0.jpg"}]', ".json", "episode 0: it lacks caption_1, question, question_image, answer"),
        ("n1/n1_0.JPEG,n2/n2_1.JPEG\n", ".csv", r"episodes\.csv, line 1: it shows 1 images before the query"),
        ("n1/n1_0.JPEG,n2/n2_0.JPEG,n1/n1_0.JPEG\n", ".csv", "line 1: its query is among its examples"),
        ("n1/n1_0.JPEG,n2/n2_0.JPEG,n3/n3_0.JPEG\n", ".csv", "line 1: its answer 'bus' is none of its classes"),
        ("x", ".txt", r"ends in '\.txt'"),
    ],
)
def test_a_malformed_file_is_told(tmp_path, content, suffix, reason):
    with pytest.raises(UserError, match=reason):
        read(tmp_path, content, suffix)


def test_a_missing_file_names_the_cell(tmp_path):
    with pytest.raises(UserError, match="none.json does not exist.*episodes of 5 ways and 3 inner shots"):
        read_episodes(tmp_path / "none.json", IMAGES, NAMES, 5, 3)


def test_an_image_name_that_fits_several_is_refused(tmp_path):
    images = np.array(["a/one.jpg", "b/one.jpg", "a/two.jpg"])
    path = tmp_path / "e.json"
    path.write_text(json.dumps([entry(image_1="one.jpg", image_2="a/two.jpg", question_image="b/one.jpg")]))
    with pytest.raises(UserError, match="episode 0: image one.jpg fits 2 images of the sample"):
        read_episodes(path, images, np.array(["x"] * 3), 2, 1)
