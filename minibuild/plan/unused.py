"""What is refused in stages that are not built: names that can mean nothing, and circles.

BuildKit resolves the names of all stages, whatever the target is (dockerfile2llb/convert.go).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.stage import find_stage
from minibuild.errors import DockerfileError, SourceRange
from minibuild.plan.needs import check_name, taken_from


def check_unused(
    dockerfile: ast.Dockerfile,
    unused: Sequence[int],
    base_name: Callable[[ast.Stage], str],
    given: Callable[[str], bool],
) -> None:
    """Raise `DockerfileError` for a fault in the stages `unused`.

    `base_name` expands what FROM names; `given` says whether a name is that of a context.
    """
    stages = dockerfile.stages
    for index in unused:
        stage = stages[index]
        name = base_name(stage)
        if find_stage(stages[:index], name, by_index=False) is None:
            check_name(name, stage.origin.where, given)
    escape = dockerfile.escape
    needs = {index: list(taken_from(stages, stages[index], escape, given)) for index in unused}
    done: set[int] = set()
    for index in unused:
        if index not in done:
            _follow(stages, index, needs, done)


def _follow(
    stages: Sequence[ast.Stage],
    index: int,
    needs: dict[int, list[tuple[int, SourceRange]]],
    done: set[int],
) -> None:
    """Go through all that stage `index` needs. Raises `DockerfileError` for a circle."""
    path = {index: iter(needs.get(index, ()))}
    while path:
        at, rest = next(reversed(path.items()))
        for needed, where in rest:
            if needed in path:
                raise DockerfileError(
                    f"circular dependency detected on stage: {stages[needed].name or needed}",
                    where=where,
                    cure="A stage can only use stages that do not use it.",
                )
            if needed not in done:
                path[needed] = iter(needs.get(needed, ()))
                break
        else:
            done.add(at)
            del path[at]
