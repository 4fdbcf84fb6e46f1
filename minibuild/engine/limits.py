"""--ulimit, --memory and --cpus as far as this user may set them; what he may not is said once."""

from __future__ import annotations

import itertools
import resource
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from minibuild.engine.session import Session
from minibuild.errors import SandboxError
from minibuild.sandbox import capabilities, cgroups
from minibuild.sandbox.limits import ULIMITS, UNLIMITED, Limits
from minibuild.values import replace

_SYS_RESOURCE: Final = 24
_numbers = itertools.count(1)


def allowed(session: Session, limits: Limits) -> Limits:
    """`limits` with ulimits no higher than this user may go."""
    if not limits.ulimits or capabilities.effective() >> _SYS_RESOURCE & 1:
        return limits
    ulimits = []
    for name, soft, hard in limits.ulimits:
        _, most = resource.getrlimit(ULIMITS[name])
        if _above(hard, most) or _above(soft, most):
            session.notice(
                "warning",
                f"--ulimit {name}={soft}:{hard}: this user may go up to {most}, so that it is",
            )
            hard = most if _above(hard, most) else hard
            soft = most if _above(soft, most) else soft
        ulimits.append((name, soft, hard))
    return replace(limits, ulimits=tuple(ulimits))


def _above(value: int, most: int) -> bool:
    return most != UNLIMITED and (value == UNLIMITED or value > most)


def joined(session: Session, stack: ExitStack, limits: Limits) -> tuple[Path, ...]:
    """Control groups for a step while `stack` lasts; none, with a warning, where that cannot be."""
    if not limits.memory and not limits.cpus:
        return ()
    try:
        return stack.enter_context(cgroups.group(limits, next(_numbers)))
    except SandboxError as error:
        names = [name for name, value in (("--memory", limits.memory), ("--cpus", limits.cpus)) if value]
        has = "have" if len(names) > 1 else "has"
        session.notice("warning", f"{' and '.join(names)} {has} no effect: {error.message}. {error.cure}")
        return ()
