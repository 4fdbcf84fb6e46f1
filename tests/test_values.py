"""Our data classes behave as those of the standard library do."""

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minibuild_store.tuples import WORTH_COMPILING

from minibuild import values
from minibuild.values import FrozenInstanceError, asdict, dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    name: str = field(compare=False)
    tags: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived(Base):
    size: int


@dataclass(slots=True)
class Open:
    count: int
    seen: dict[str, int] = field(default_factory=dict)


def test_takes_fields_by_position_and_by_name():
    assert (Point(1, 2).x, Point(1, y=2).y, Point(1).y) == (1, 2, 0)


def test_refuses_missing_and_unknown_fields():
    with pytest.raises(TypeError):
        Point()
    with pytest.raises(TypeError):
        Point(1, z=3)
    with pytest.raises(TypeError):
        Derived("name", size=1)


def test_an_inherited_field_keeps_its_default():
    value = Derived(name="n", size=3)
    assert (value.name, value.size, value.tags) == ("n", 3, [])


def test_every_instance_gets_a_value_of_its_own_from_a_factory():
    first, second = Open(1), Open(1)
    first.seen["a"] = 1
    assert second.seen == {}


def test_a_frozen_instance_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Point(1).x = 2
    with pytest.raises(AttributeError):
        del Point(1).x


def test_an_instance_has_no_other_attributes():
    with pytest.raises(AttributeError):
        Open(1).other = 2


def test_equality_leaves_out_what_is_not_compared():
    assert Point(1, note="a") == Point(1, note="b")
    assert hash(Point(1, note="a")) == hash(Point(1, note="b"))
    assert Point(1) != Point(2)
    assert Point(1, 0) != (1, 0)


def test_an_open_class_has_no_hash():
    with pytest.raises(TypeError):
        hash(Open(1))


def test_the_repr_names_the_fields_that_are_shown():
    assert repr(Point(1, 2)) == "Point(x=1, y=2, note='')"
    assert repr(Derived(name="n", size=1)) == "Derived(name='n', size=1)"


def test_patterns_match_by_position():
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_replace_makes_another_value():
    assert replace(Point(1, 2, "n"), y=5) == Point(1, 5)
    assert asdict(Point(1, 2)) == {"x": 1, "y": 2, "note": ""}


def test_copies_and_pickles_equal_the_original():
    value = Point(1, 2, "n")
    assert pickle.loads(pickle.dumps(value)).note == "n"
    assert copy.deepcopy(value) == value


def test_the_standard_library_takes_them_for_data_classes():
    assert dataclasses.is_dataclass(Point)
    assert [one.name for one in dataclasses.fields(Derived)] == ["name", "tags", "size"]
    assert dataclasses.replace(Point(1, 2), x=7) == Point(7, 2)


def plan(module, kw_only):
    """A class with every sort of field, of ours or of `dataclasses`."""

    @module.dataclass(frozen=True, slots=True, kw_only=kw_only)
    class Plan:
        a: int
        b: int = 1
        c: list[int] = module.field(default_factory=lambda: [2])

    return Plan


@given(
    st.lists(st.integers(3, 9), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(3, 9)),
    st.booleans(),
    st.booleans(),
)
def test_any_call_gives_what_it_gives_there(args, kwargs, kw_only, worn):
    def outcome(cls):
        try:
            value = cls(*args, **kwargs)
        except TypeError as refused:
            return str(refused)
        return value.a, value.b, value.c

    kind = plan(values, kw_only)
    for _ in range(WORTH_COMPILING if worn else 0):
        kind(a=1)
    assert outcome(kind) == outcome(plan(dataclasses, kw_only))


def test_a_call_that_another_thread_overtakes_is_answered():
    kind = plan(values, False)
    begun = kind.__init__
    for _ in range(WORTH_COMPILING + 1):
        kind(a=1)
    assert kind.__init__ is not begun
    value = kind.__new__(kind)
    begun(value, 5)
    assert value == kind(5)
