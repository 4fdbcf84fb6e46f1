"""Our named tuples behave as those of `typing` do."""

import copy
import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minibuild_store.tuples import WORTH_COMPILING, NamedTuple, maker

NAMES = ["a", "b", "c", "d", "e"]


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 0

    ORIGIN = "here"

    @property
    def size(self) -> int:
        return abs(self.x) + abs(self.y)

    @classmethod
    def parse(cls, text: str) -> "Point":
        return cls(*map(int, text.split()))


class Described(Point):
    """A class beneath one of named tuples, as with any other class."""

    def __str__(self) -> str:
        return f"<{self.x}, {self.y}>"


class Bare(NamedTuple):
    first: str
    second: str | None = None


def both(names, defaults):
    """A class with these fields, the last of which have defaults: of ours, and of `typing`."""
    members = dict(zip(reversed(names), reversed(defaults), strict=False))
    lines = [f"    {name}: int" + (f" = {members[name]}" if name in members else "") for name in names]
    made = []
    for base in (NamedTuple, typing.NamedTuple):
        scope = {"Base": base, "__name__": __name__}
        exec("\n".join(["class Made(Base):", *lines, "    pass"]), scope)
        made.append(scope["Made"])
    return made


def outcome(call):
    """What `call` returns in a form to compare, or that it refuses."""
    try:
        value = call()
    except (TypeError, ValueError):
        return "refused"
    return type(value).__name__, tuple(value), repr(value), hash(value), value._asdict(), value[1:2]


FIELDS = st.integers(0, len(NAMES)).flatmap(
    lambda count: st.tuples(st.just(NAMES[:count]), st.lists(st.integers(5, 9), max_size=count))
)
POSITIONAL = st.lists(st.integers(0, 4), max_size=6)
NAMED = st.dictionaries(st.sampled_from([*NAMES, "other"]), st.integers(0, 4), max_size=5)


@given(FIELDS, st.lists(st.tuples(POSITIONAL, NAMED, NAMED), max_size=3), st.booleans())
def test_any_call_gives_what_it_gives_there(fields, calls, worn):
    ours, theirs = both(*fields)
    for name in ("_fields", "_field_defaults", "__match_args__", "__slots__"):
        assert getattr(ours, name) == getattr(theirs, name)
    if worn:
        for _ in range(WORTH_COMPILING):
            ours(*fields[0])
    for args, kwargs, changes in calls:
        expected = outcome(lambda: theirs(*args, **kwargs))  # noqa: B023
        assert outcome(lambda: ours(*args, **kwargs)) == expected  # noqa: B023
        assert outcome(lambda: ours._make(args)) == outcome(lambda: theirs._make(args))  # noqa: B023
        if expected != "refused":
            one, other = ours(*args, **kwargs), theirs(*args, **kwargs)
            assert one == other == tuple(one)
            assert [getattr(one, name) for name in ours._fields] == list(other)
            assert outcome(lambda: one._replace(**changes)) == outcome(  # noqa: B023
                lambda: other._replace(**changes)  # noqa: B023
            )


@given(FIELDS)
def test_before_and_after_its_constructor_is_compiled_a_class_is_the_same(fields):
    names, defaults = fields
    ours, _ = both(names, defaults)
    seen = {ours(*names) for _ in range(WORTH_COMPILING + 5)}
    seen |= {ours(**dict(zip(names, names, strict=True))) for _ in range(2)}
    assert seen == {ours(*names)}


def test_methods_properties_and_constants_of_the_body_stay():
    assert Point.parse("3 -4").size == 7
    assert Point.ORIGIN == "here"
    assert Point.__doc__ == "A place."
    assert Point.__module__ == __name__
    assert Bare.__doc__ == "Bare(first, second)"


def test_annotations_are_found_by_those_who_ask():
    assert typing.get_type_hints(Bare) == {"first": str, "second": str | None}


def test_a_pattern_matches_by_place_and_by_name():
    match Point(1, 2):
        case Point(x, y=second):
            assert (x, second) == (1, 2)
        case _:
            raise AssertionError


def test_an_instance_cannot_be_changed():
    with pytest.raises(AttributeError):
        Point(1).x = 2
    with pytest.raises(AttributeError):
        Point(1).other = 2


@pytest.mark.parametrize("value", [Point(1), Described(1, 2)])
def test_copies_and_pickles(value):
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert type(other) is type(value)


def test_a_class_beneath_makes_instances_of_its_own():
    many = [Described(number) for number in range(2 * WORTH_COMPILING)]
    assert {type(one) for one in many} == {Described}
    assert str(many[-1]._replace(y=5)) == f"<{2 * WORTH_COMPILING - 1}, 5>"
    assert type(Point(1)) is Point


def test_a_wrong_call_names_the_class_and_what_is_missing():
    with pytest.raises(TypeError, match=r"Point\.__new__\(\) missing 1 required positional argument: 'x'"):
        Point()


def test_a_field_without_default_cannot_follow_one_with():
    with pytest.raises(TypeError, match="default"):

        class Wrong(NamedTuple):
            a: int = 1
            b: int


def test_a_maker_makes_what_the_class_makes() -> None:
    assert maker(Point)((1, 2)) == Point(1, 2)
    assert type(maker(Point)((1, 2))) is Point
