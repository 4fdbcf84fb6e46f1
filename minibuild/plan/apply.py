"""Instructions applied one by one to their stage: its variables, configuration, steps and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.words import expand, expand_words
from minibuild.errors import DockerfileError, MinibuildError, SourceRange
from minibuild.oci.config import ImageConfig
from minibuild.plan import copystep, metadata, runstep
from minibuild.plan.options import LowerOptions
from minibuild.plan.scope import proxy_variables
from minibuild.plan.stagestate import Lookup, StageState
from minibuild.plan.steps import WorkdirStep
from minibuild.values import replace

_T = TypeVar("_T")


def placed(work: Callable[[], _T], where: SourceRange) -> _T:
    """What `work` returns; an error in it is one at `where`."""
    try:
        return work()
    except MinibuildError as error:
        raise error.at(where) from None


def expander(variables: Mapping[str, str], escape: str, where: SourceRange) -> Callable[[str], str]:
    """What replaces `variables` in a text of the instruction at `where`."""

    def expanded(text: str) -> str:
        if "$" not in text and '"' not in text and "'" not in text and escape not in text:
            return text
        return placed(lambda: expand(text, variables, escape=escape).text, where)

    return expanded


class Instructions:
    """Applies instructions under one set of `options` and the global arguments in `scope`.

    `lookup` tells what a name behind ``--from`` means, `not_cached` whether the step that an instruction
    added is to be executed anew.
    """

    def __init__(
        self,
        options: LowerOptions,
        escape: str,
        scope: Mapping[str, str],
        *,
        lookup: Lookup,
        not_cached: Callable[[ast.Instruction, StageState], bool],
    ) -> None:
        self._given = options.build_args
        self._escape = escape
        self._globals = scope
        self._lookup = lookup
        self._not_cached = not_cached
        self._run_options = runstep.RunOptions(
            escape=escape,
            network=options.network,
            cache_namespace=options.cache_namespace,
            hostname=self._given.get("BUILDKIT_SANDBOX_HOSTNAME") or options.hostname,
            proxy=proxy_variables(self._given),
        )

    def apply(self, node: ast.Instruction, state: StageState) -> None:
        """Raises a `MinibuildError` that knows the instruction's place."""
        before = len(state.steps)
        try:
            self._dispatch(node, state)
            self._set_caching(node, state, added=len(state.steps) > before)
        except MinibuildError as error:
            raise error.at(node.where) from None

    def _set_caching(self, node: ast.Instruction, state: StageState, *, added: bool) -> None:
        """What comments above the instruction, and the caller, say of caching its step."""
        if any("minibuild:" in comment.lower() for comment in node.comments):
            from minibuild.plan.stepoptions import with_comments

            step = with_comments(state.steps[-1] if added else None, node)
            if step is not None:
                state.steps[-1] = step
        if added and self._not_cached(node, state):
            state.steps[-1] = replace(state.steps[-1], cacheable=False)

    def _dispatch(self, node: ast.Instruction, state: StageState) -> None:
        expanded = expander(state.scope.variables, self._escape, node.where)
        match node:
            case ast.Env():
                state.record(metadata.apply_env(node, state.scope, expanded))
            case ast.Arg():
                self._arg(node, state, expanded)
            case ast.Run():
                runstep.apply(node, state, self._lookup, self._run_options)
            case ast.Copy():
                copystep.apply(node, state, self._lookup, expanded)
            case ast.Workdir():
                self._workdir(node, state, expanded)
            case ast.Cmd():
                state.cmd_set = True
                self._metadata(metadata.apply_cmd(node, state.config), state)
            case ast.Entrypoint():
                change = metadata.apply_entrypoint(node, state.config, keep_cmd=state.cmd_set)
                self._metadata(change, state)
            case ast.Expose():
                words = [
                    word
                    for port in node.ports
                    for word in expand_words(port, state.scope.variables, escape=self._escape)
                ]
                state.record(metadata.apply_expose(node, state.collected, words))
            case _:
                applied = metadata.apply_metadata(node, state.config, state.collected, expanded)
                if applied is None:
                    raise DockerfileError(f"instruction not supported here: {node.code}", where=node.where)
                self._metadata(applied, state)

    def _metadata(self, change: tuple[ImageConfig, str], state: StageState) -> None:
        state.config, text = change
        if text:
            state.record(text)

    def _arg(self, node: ast.Arg, state: StageState, expanded: Callable[[str], str]) -> None:
        texts = []
        for written, default in node.args:
            value = default
            if written in self._given:
                value = self._given[written]
            elif default is not None:
                value = expanded(default)
            elif written in self._globals:
                value = self._globals[written]
            state.scope.set_arg(written, value)
            texts.append(written if value is None else f"{written}={value}")
        state.record("ARG " + " ".join(texts))

    def _workdir(self, node: ast.Workdir, state: StageState, expanded: Callable[[str], str]) -> None:
        path = metadata.working_dir(state.config.working_dir, expanded(node.path))
        state.config = replace(state.config, working_dir=path)
        layer = path != "/"
        name = state.prefix() + f"WORKDIR {path}"
        if layer:
            state.steps.append(
                WorkdirStep(
                    name=name,
                    instruction=node.code,
                    where=node.where,
                    cacheable=state.cacheable,
                    path=path,
                    user=state.config.user,
                )
            )
        state.record(f"WORKDIR {path}", layer=layer)
