"""Lists of names by WordNet id in every format that people bring, and CSV lists of images; distinct names."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2l.data.csv_lists import read_csv
from v2l.data.synset_lists import read_synsets
from v2l.data.synsets import distinct_names, synset_names
from v2l.errors import UserError

FOX, CROW = "n02119789", "n01582220"
NAMED = {FOX: ["kit fox", "Vulpes macrotis"], CROW: ["magpie"]}


@pytest.mark.parametrize(
    "text",
    [
        f"{FOX} kit fox, Vulpes macrotis\n{CROW} magpie\n",
        f"\ufeff{FOX} kit fox, Vulpes macrotis\n{CROW} magpie\n",
        f"{FOX}\tkit fox, Vulpes macrotis\n{CROW}\tmagpie\n",
        f"{FOX} kit fox, Vulpes macrotis\r\n\r\n{CROW} magpie  \r\n",
        f"{FOX} kit fox, Vulpes macrotis\r{CROW} magpie",
        f'wnid,words\n{FOX},"kit fox, Vulpes macrotis"\n{CROW},magpie\n',
        f'wnid ; words\n{FOX} ; "kit fox, Vulpes macrotis"\n{CROW};magpie\n',
        f"{FOX} 'kit fox, Vulpes macrotis'\n{CROW} \"magpie\"\n",
        f"{FOX} kit_fox, Vulpes_macrotis\n{CROW} magpie\n",
        f"{FOX} kit fox, , Vulpes macrotis,\n{CROW} magpie\n{CROW} magpie\n",
        json.dumps({FOX: "kit_fox, Vulpes macrotis", CROW: "magpie"}),
        json.dumps({"0": [FOX, "kit_fox", "Vulpes macrotis"], "1": [CROW, "magpie"]}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_formats_of_synset_lists(tmp_path, text, encoding):
    path = tmp_path / "list"
    path.write_bytes(text.encode(encoding))
    found = read_synsets(path)
    assert {wnid: found[wnid] for wnid in NAMED} == NAMED


def test_the_development_kits_numbered_list(tmp_path):
    (tmp_path / "map_clsloc.txt").write_text(f"{FOX} 1 kit_fox\n{CROW} 3 magpie\nn02128385 4 leopard\n")
    assert synset_names(tmp_path / "map_clsloc.txt", [CROW, FOX]) == ["magpie", "kit fox"]
    (tmp_path / "one_begins_so.txt").write_text(f"{FOX} 4 wheeler\n{CROW} magpie\n")
    assert synset_names(tmp_path / "one_begins_so.txt", [FOX]) == ["4 wheeler"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{FOX} 1 kit_fox\n{CROW} magpie\nn3 3 x\n", "line 2: no `wnid number name` as other lines are"),
        (f"{FOX} 1 kit_fox\n{CROW} 1 magpie\n", "lines `wnid number name` whose numbers are not distinct"),
        (f"{FOX} kit_fox 1\n{CROW} magpie 2\n", f"line 1: {FOX} is named 'kit_fox 1', and every line ends in a number"),
        (f"{FOX},1,kit_fox\n", f"line 1: the number 1 instead of a name for '{FOX}'"),
        (f"{CROW} magpie\n\n{FOX}\n", f"line 3: no name for '{FOX}'"),
        (f"{CROW} magpie\n{FOX} fox\n{CROW} crow\n", f"line 3: {CROW} has other names than in line 1"),
        (f'{FOX},"kit fox\n', "line 1: unexpected end of data"),
        ("{0: 'tench, Tinca tinca',\n 1: 'goldfish'}", "neither lines nor JSON of that kind"),
        ('["tench", "goldfish"]', "neither lines nor JSON of that kind"),
        ('{"0": "tench"}', "JSON with an entry that has no wnid"),
        (f'{{"{FOX}": []}}', "JSON with an entry that has no name"),
        (f"1 {FOX} kit fox\n", f"has no line for {FOX}; it begins with '1' named '{FOX} kit fox'"),
        ("", f"has no line for {FOX}; it is empty"),
        (f"{CROW} magpie\n{FOX} caf\u00e9\n".encode("latin-1"), "line 2: byte 0xe9 is no UTF-8"),
        (f"{FOX} fox\n".encode("utf-16-le"), "line 1: it holds a zero byte"),
    ],
)
def test_other_lists_are_refused_by_line(tmp_path, content, message):
    path = tmp_path / "list"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        synset_names(path, [FOX])
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_names_are_compared_in_one_normal_form():
    assert distinct_names([["cafe\u0301", "x", "key"], ["a\n b ", "y", "z"]]) == ["caf\u00e9", "a b"]
    assert distinct_names([["cafe\u0301", "first", "1"], ["caf\u00e9", "second", "2"]]) == ["first", "second"]
    assert distinct_names([["", "", "_"], ['[1, "2"]', "y", "z"]]) == ["_", '[1, "2"]']
    with pytest.raises(UserError, match=r"classes 'cafe\\u0301', 'caf\\xe9' have the same name"):
        distinct_names([["cafe\u0301"] * 3, ["caf\u00e9"] * 3, ["tea"] * 3])
    with pytest.raises(UserError, match=r"classes ' ' have the same name in Unicode's normal form, or none"):
        distinct_names([[" "] * 3])


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.jpg,n1\n\nb.jpg,n2\n",
        "\ufeff filename , label \r\na.jpg , n1\r\nb.jpg,n2,\r\n",
        "label;filename\nn1;a.jpg\nn2;b.jpg",
        'filename\tlabel\r"a.jpg"\tn1\rb.jpg\tn2',
    ],
)
def test_formats_of_csv_lists(tmp_path, text):
    (tmp_path / "list.csv").write_bytes(text.encode())
    assert read_csv(tmp_path / "list.csv", ["filename", "label"]) == [["a.jpg", "n1"], ["b.jpg", "n2"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column filename, label: its first line is ''"),
        ("a.jpg,n1\n", "has no column filename, label: its first line is 'a.jpg,n1'"),
        ("filename;lab\na;b\n", "has no column label: its first line is 'filename;lab'"),
        ("filename,label\na.jpg\n", "line 2 has 1 fields, the header 2"),
        ("filename,label\n\na,b.jpg,n1\n", "line 3 has 3 fields, the header 2"),
        ('filename,label\n"a.jpg,n1\n', "line 3: unexpected end of data"),
        ("filename,label,label\n", "has column label twice"),
    ],
)
def test_other_csv_lists_are_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_csv(tmp_path / "list.csv", ["filename", "label"])
    assert message in str(caught.value)


LINES = st.lists(
    st.lists(st.sampled_from([FOX, "filename", "label", " ", ",", ";", "\t", '"', "1", "fox", "\r", "{", "\u00e9"])),
    max_size=6,
).map(lambda lines: "\n".join("".join(line) for line in lines).encode())


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=60) | LINES)
def test_any_bytes_are_a_list_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for read in (lambda: read_csv(path, ["filename", "label"]), lambda: synset_names(path, [FOX])):
        try:
            found = read()
        except UserError as error:
            assert str(path) in error.problem
        else:
            assert isinstance(found, list)
