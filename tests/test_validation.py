"""Checks of files: what is right passes, and what is wrong is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_csv
from de3dgan.base.schema import (
    LIST,
    OBJECT,
    TEXT,
    TRUTH,
    FieldType,
    check,
    check_finite,
    column,
    list_of,
    non_finite,
    number,
    one_of,
    or_null,
    whole,
)
from tests.helpers import one_line

FIELDS = {
    "fold": whole(0, 4),
    "leaky": TRUTH,
    "test": OBJECT,
    "test.*": OBJECT,
    "test.*.auc": or_null(number(0, 1)),
    "artefacts": LIST,
    "artefacts.*.stage": one_of("gan", "classifier"),
    "artefacts.*.recomputed?": TRUTH,
    "quality?": OBJECT,
    "quality?.real.*": number(),
    "names": list_of(TEXT, 2),
}


def content() -> dict:
    return {
        "fold": 3,
        "leaky": False,
        "test": {"frame": {"auc": 0.5}, "trial": {"auc": None}},
        "artefacts": [{"stage": "gan", "recomputed": True}, {"stage": "classifier"}],
        "names": ["low", "high"],
    }


def refused(found: object, fields: dict[str, FieldType] = FIELDS) -> str:
    with pytest.raises(UserError) as error:
        check(found, fields, "some.json", "do it again.")
    message = one_line(error)
    assert message.startswith("some.json is damaged: ") and message.endswith(": do it again.")
    return message.removeprefix("some.json is damaged: ").removesuffix(": do it again.")


def test_what_is_right_passes():
    check(content(), FIELDS, "some.json", "do it again.")
    check({**content(), "quality": {"real": {"a": 1, "b": -2.5}}}, FIELDS, "", "")
    check({**content(), "more": math.nan}, FIELDS, "", "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fold": 5}, "fold is 5, and must be a whole number from 0 to 4"),
        ({"fold": 1.0}, "fold is 1.0, "),
        ({"fold": True}, "fold is true, "),
        ({"fold": "3"}, 'fold is "3", '),
        ({"fold": None}, "fold is null, "),
        ({"leaky": 0}, "leaky is 0, and must be true or false"),
        ({"test": []}, "test is [], and must be an object"),
        ({"test": {"frame": 3}}, "test.frame is 3, and must be an object"),
        ({"test": {"frame": {}}}, "test.frame.auc is missing, and must be a finite number from"),
        ({"test": {"trial": {"auc": math.nan}}}, "test.trial.auc is NaN, "),
        ({"test": {"trial": {"auc": 1.01}}}, "from 0 to 1, or null"),
        ({"artefacts": {}}, "artefacts is {}, and must be a list"),
        ({"artefacts": [{"stage": "x"}]}, 'artefacts.0.stage is "x", and must be one of gan, cl'),
        ({"artefacts": [{"stage": "gan"}, {"stage": []}]}, "artefacts.1.stage is [], "),
        ({"artefacts": [7]}, "artefacts.0.stage is missing"),
        ({"artefacts": [{"stage": "gan", "recomputed": 1}]}, "artefacts.0.recomputed is 1, "),
        ({"quality": {"real": {"a": math.inf}}}, "quality.real.a is Infinity, "),
        ({"quality": 1}, "quality is 1, "),
        ({"names": ["one"]}, 'names is ["one"], and must be a list of 2, each a text'),
        ({"names": ["one", ""]}, "names is "),
        ({"names": "ab"}, 'names is "ab", '),
    ],
)
def test_what_is_wrong_is_named(change, says):
    assert says in refused({**content(), **change})


@pytest.mark.parametrize("field", ["fold", "leaky", "test", "artefacts", "names"])
def test_what_is_missing_is_named(field):
    found = content()
    del found[field]
    assert refused(found).startswith(f"{field} is missing, and must be ")


@pytest.mark.parametrize("found", [[], None, 3, "text", math.nan])
def test_what_is_no_object_is_refused(found):
    assert "must be an object" in refused(found)


def test_long_values_are_cut():
    assert len(refused({"fold": "x" * 1000}, {"fold": whole()})) < 120


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(JSON, st.sampled_from([*FIELDS, "a.b.c", "*.*", "*.0"]))
def test_whatever_a_file_holds_is_right_or_gives_a_sentence(found, field):
    for fields in ({field: FIELDS.get(field, number())}, FIELDS):
        try:
            check(found, fields, "some.json", "do it again.")
        except UserError as error:
            assert str(error).startswith("some.json is damaged: ")


@given(JSON)
def test_non_finite_numbers_are_found_wherever_they_are(found):
    """The standard library refuses the same ones, without a name."""
    try:
        json.dumps(found, allow_nan=False)
        assert not list(non_finite(found))
        check_finite(found, "some.json", "do it again.")
    except ValueError:
        assert list(non_finite(found))
        with pytest.raises(UserError, match="must be a finite number"):
            check_finite(found, "some.json", "do it again.")


def test_a_non_finite_number_is_named():
    with pytest.raises(UserError, match=r"some.json is damaged: a\.1\.b is NaN"):
        check_finite({"a": [1, {"b": math.nan}]}, "some.json", "do it again.")


# --- Tables ------------------------------------------------------------------------------------


def written(folder: Path, content: bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content)
    return path


def test_a_table_is_read_by_column(tmp_path):
    path = written(tmp_path, 'trial,p,who\n0,0.5,"a, b"\n12,1e-3,é\n'.encode())
    table = read_csv(path, "do it again.")
    assert table == {"trial": ["0", "12"], "p": ["0.5", "1e-3"], "who": ["a, b", "é"]}
    assert column(table, "trial", whole(0), path, "") == [0, 12]
    assert column(table, "p", number(0, 1), path, "") == [0.5, 0.001]
    assert column(table, "who", TEXT, path, "") == ["a, b", "é"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has no row"),
        (b"a,b\n", "it has no row"),
        (b"a,a\n1,2\n", "two of its columns have one name"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 columns, and line 1 has 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 columns"),
        (b"a,b\n\xff,2\n", "can't decode"),
        (b"a,b\n" + b"1" * 200_000 + b",2\n", "field larger"),
    ],
)
def test_a_damaged_table_is_refused(content, says, tmp_path):
    with pytest.raises(UserError) as error:
        read_csv(written(tmp_path, content), "do it again.")
    message = one_line(error)
    assert says in message and "t.csv is damaged" in message and message.endswith("do it again.")


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="t.csv is damaged or missing .*: do it again"):
        read_csv(tmp_path / "t.csv", "do it again.")


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [
        ("1.5", whole(), 'a in line 3 is "1.5", and must be a whole number'),
        ("", number(), 'a in line 3 is "", and must be a finite number'),
        ("nan", number(), 'a in line 3 is "nan", '),
        ("-inf", number(), 'a in line 3 is "-inf", '),
        ("2", number(0, 1), "from 0 to 1"),
        ("", TEXT, 'a in line 3 is "", and must be a text'),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(cell, kind, says, tmp_path):
    with pytest.raises(UserError) as error:
        column({"a": ["1", cell]}, "a", kind, tmp_path / "t.csv", "do it again.")
    assert says in one_line(error)
    with pytest.raises(UserError, match="column b is missing"):
        column({"a": ["1", cell]}, "b", kind, tmp_path / "t.csv", "do it again.")
