"""Which stages a stage takes files from, by its instructions, and stages in an order that has those first."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.gotext import number
from minibuild.dockerfile.mounts import check_mount
from minibuild.dockerfile.stage import find_stage
from minibuild.errors import DockerfileError, SourceRange
from minibuild.oci.reference import Reference
from minibuild.plan.apply import expander, placed
from minibuild.plan.copystep import check_from


def each_after_its_needs(
    index: int, needs: Callable[[int], Iterable[int]], done: Container[int]
) -> Iterator[int]:
    """Stage `index` and all below it that are not `done`, however long a chain they are; free of circles."""
    path = [(index, iter(needs(index)))]
    met = {index}
    while path:
        at, rest = path[-1]
        needed = next((one for one in rest if one not in met and one not in done), None)
        if needed is None:
            path.pop()
            yield at
        else:
            met.add(needed)
            path.append((needed, iter(needs(needed))))


def taken_from(
    stages: Sequence[ast.Stage], stage: ast.Stage, escape: str, given: Callable[[str], bool]
) -> Iterator[tuple[int, SourceRange]]:
    """The stages that instructions of `stage` take files from. Raises `DockerfileError`.

    `given` says whether a name is that of a context.
    """
    for node in stage.instructions:
        if isinstance(node, ast.Copy) and node.from_:
            check_from(node, expander({}, escape, node.where))
            index = find_stage(stages, node.from_)
            if index is not None:
                yield index, node.where
            elif number(node.from_, most=1 << 62, signed=True) is not None:
                raise DockerfileError(
                    f"invalid stage index {node.from_}",
                    where=node.where,
                    cure="Stages are counted from 0; better name them with AS.",
                )
            else:
                check_name(node.from_, node.where, given)
        elif isinstance(node, ast.Run):
            for name in filter(None, map(check_mount, node.mounts)):
                index = find_stage(stages, name, by_index=False)
                if index is not None:
                    yield index, node.where
                else:
                    check_name(name, node.where, given)


def check_name(name: str, where: SourceRange, given: Callable[[str], bool]) -> None:
    """Refuse the name of an image that none can have, unless it is `given`. Raises `DockerfileError`."""
    if name != "scratch" and not given(name):
        placed(lambda: Reference.parse(name), where)
