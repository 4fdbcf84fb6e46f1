"""What is refused in stages that are not built: names that can mean nothing, and circles.

BuildKit resolves the names of all stages, whatever the target is (dockerfile2llb/convert.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.gotext import number
from minibuild.dockerfile.mounts import check_mount
from minibuild.dockerfile.stage import find_stage
from minibuild.errors import DockerfileError, SourceRange
from minibuild.oci.reference import Reference
from minibuild.plan.apply import expander, placed
from minibuild.plan.copystep import check_from


def check_unused(
    dockerfile: ast.Dockerfile, unused: Sequence[int], base_name: Callable[[ast.Stage], str]
) -> None:
    """Raise `DockerfileError` for a fault in the stages `unused`; `base_name` expands what FROM names."""
    stages = dockerfile.stages
    for index in unused:
        stage = stages[index]
        name = base_name(stage)
        if find_stage(stages[:index], name, by_index=False) is None:
            _check_name(name, stage.origin.where)
    needs = {index: list(_needs(stages, stages[index], dockerfile.escape)) for index in unused}
    done: set[int] = set()
    for index in unused:
        _follow(stages, index, needs, (), done)


def _needs(stages: Sequence[ast.Stage], stage: ast.Stage, escape: str) -> Iterator[tuple[int, SourceRange]]:
    """The stages that instructions of `stage` take files from."""
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
                _check_name(node.from_, node.where)
        elif isinstance(node, ast.Run):
            for name in filter(None, map(check_mount, node.mounts)):
                index = find_stage(stages, name, by_index=False)
                if index is not None:
                    yield index, node.where
                else:
                    _check_name(name, node.where)


def _check_name(name: str, where: SourceRange) -> None:
    if name != "scratch":
        placed(lambda: Reference.parse(name), where)


def _follow(
    stages: Sequence[ast.Stage],
    index: int,
    needs: dict[int, list[tuple[int, SourceRange]]],
    path: tuple[int, ...],
    done: set[int],
) -> None:
    for needed, where in needs.get(index, ()) if index not in done else ():
        if needed == index or needed in path:
            raise DockerfileError(
                f"circular dependency detected on stage: {stages[needed].name or needed}",
                where=where,
                cure="A stage can only use stages that do not use it.",
            )
        _follow(stages, needed, needs, (*path, index), done)
    done.add(index)
