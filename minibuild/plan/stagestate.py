"""A stage while its instructions are applied one by one."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.credentials import redacted
from minibuild.errors import SourceRange
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.platform import Platform
from minibuild.plan.metadata import Collected
from minibuild.plan.scope import Scope
from minibuild.plan.steps import HistoryLine, Source, Step
from minibuild.values import dataclass, field

HISTORY_COMMENT = "buildkit.dockerfile.v0"


@dataclass(slots=True)
class StageState:
    """The lowering's only mutable value. `display` is the stage's name in progress, "" for a lone stage."""

    index: int
    display: str
    scope: Scope
    config: ImageConfig
    platform: Platform
    where: SourceRange
    cacheable: bool = True
    steps: list[Step] = field(default_factory=list)
    history: list[HistoryLine] = field(default_factory=list)
    total: int = 0
    done: int = 0
    cmd_set: bool = False
    collected: Collected = field(default_factory=Collected)
    onbuild: bool = False

    def prefix(self) -> str:
        """``[build 2/5] ``, counting up."""
        self.done += 1
        width = len(str(self.total))
        name = f"{self.display} " if self.display else ""
        mark = "ONBUILD " if self.onbuild else ""
        return f"[{name}{self.done:>{width}}/{self.total}] {mark}"

    def record(self, text: str, *, layer: bool = False) -> None:
        """Add a history line; with `layer` it belongs to the step added last.

        It goes wherever the image goes: the passwords of addresses stay out of it.
        """
        line = History(created_by=redacted(text), comment=HISTORY_COMMENT, empty_layer=not layer)
        self.history.append(HistoryLine(line, len(self.steps) - 1 if layer else None))


Lookup = Callable[[str, StageState, SourceRange], Source]
