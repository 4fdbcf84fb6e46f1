"""From a parsed Dockerfile to the graph of steps: the stages a target needs, in the order they build.

Only the documents of base images are asked for (through `Bases`); nothing is executed or read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.parse import parse_onbuild
from minibuild.dockerfile.stage import check_earlier, find_stage, unknown_stage
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.dockerfile.words import expand
from minibuild.errors import DockerfileError, MinibuildError, SourceRange
from minibuild.oci.config import ImageConfig
from minibuild.oci.platform import Platform
from minibuild.plan.apply import Instructions, expander, placed
from minibuild.plan.options import EPOCH, Bases, LowerOptions, Unset
from minibuild.plan.scope import DEFAULT_PATH, Scope, platform_args
from minibuild.plan.stagestate import StageState
from minibuild.plan.steps import FromImage, FromScratch, FromStage, Plan, Source, StagePlan
from minibuild.values import replace

if TYPE_CHECKING:
    from minibuild.plan.stepoptions import NoCacheSteps

_T = TypeVar("_T")
_NESTED = 40  # stages, each lowered as another asks for it; Python's calls do not nest without end


def lower(
    dockerfile: ast.Dockerfile,
    options: LowerOptions,
    bases: Bases,
    *,
    origins: dict[int, Source] | None = None,
    notes: list[str] | None = None,
) -> Plan:
    """The plan for `options.target` (default: the last stage); raises `DockerfileError`.

    `origins` is filled with what each stage starts from, as far as lowering comes, `notes` with what of
    the options had no effect.
    """
    lowering = _Lowering(dockerfile, options, bases, {} if origins is None else origins)
    plan = lowering.plan()
    if notes is not None:
        notes.extend(lowering.notes)
    return plan


class _Lowering:
    def __init__(
        self, dockerfile: ast.Dockerfile, options: LowerOptions, bases: Bases, origins: dict[int, Source]
    ) -> None:
        self.dockerfile = dockerfile
        self.options = options
        self.bases = bases
        self.origins = origins
        self.notes: list[str] = []
        self._no_cache_steps = _no_cache_steps(options)
        self.escape = dockerfile.escape
        self._plans: dict[int, StagePlan] = {}
        self._states: dict[int, StageState] = {}
        self._open: list[int] = []
        self._replaced: set[int] = set()  # stages that a named context stands in for
        self._globals = self._global_scope()
        self.epoch = self.options.epoch
        if self._globals.get(EPOCH) or self.options.build_args.get(EPOCH) is not None:
            self._resolve_epoch()
        self._instructions = Instructions(
            self.options, self.escape, self._globals, lookup=self.source, not_cached=self._not_cached
        )

    def plan(self) -> Plan:
        target = self._target()
        for stage in self.dockerfile.stages if self.options.all_stages else ():
            self._stage(stage.index)
        self._stage(target)
        unused = [stage.index for stage in self.dockerfile.stages if stage.index not in self._plans]
        if unused:
            from minibuild.plan.unused import check_unused

            bases = self.bases
            check_unused(self.dockerfile, unused, lambda stage: self._origin(stage)[0], bases.has_context)
        if self._no_cache_steps is not None and not self.options.all_stages:
            self._no_cache_steps.check()
        if self.options.no_cache_stages:
            from minibuild.plan.stepoptions import unknown_stages

            self.notes.extend(unknown_stages(self.options.no_cache_stages, self.dockerfile.stages))
        last = self._plans.pop(target)
        config = last.config
        if self.options.labels:
            config = replace(config, labels={**config.labels, **self.options.labels})
        if self.options.explicit_platform:
            config = replace(config, platform=self.options.target_platform)
        return Plan((*self._plans.values(), replace(last, config=config)), epoch=self.epoch)

    def _global_scope(self) -> dict[str, str]:
        options = self.options
        target = options.target or (self.dockerfile.stages[-1].name if self.dockerfile.stages else "")
        scope = platform_args(options.build_platform, options.target_platform, target, options.build_args)
        for node in self.dockerfile.global_args:
            for name, default in node.args:
                if name in options.build_args:
                    scope[name] = options.build_args[name]
                elif default is not None:
                    scope[name] = self._expander(scope, node.where)(default)
        return scope

    def _resolve_epoch(self) -> None:
        from minibuild.plan.epoch import resolve

        def expanded(text: str, variables: Mapping[str, str]) -> str:
            return expand(text, variables, escape=self.escape).text

        self.epoch, given, self._globals = resolve(
            self.dockerfile, self.options, self._globals, self.bases, expanded
        )
        self.options = replace(self.options, build_args=given)

    def _expander(self, variables: Mapping[str, str], where: SourceRange) -> Callable[[str], str]:
        return expander(variables, self.escape, where)

    def _target(self) -> int:
        stages = self.dockerfile.stages
        if not self.options.target:
            return len(stages) - 1
        index = find_stage(stages, self.options.target)
        if index is None:
            raise unknown_stage(stages, self.options.target, what="target stage")
        return index

    def _without(self, config: ImageConfig, unset: Unset) -> ImageConfig:
        from minibuild.plan.unset import without

        config, idle = without(config, unset)
        self.notes.extend(idle)
        return config

    def _target_line(self) -> set[int]:
        """The target and the stages that it is built on, FROM by FROM."""
        found = {self._target()}
        stage = self.dockerfile.stages[self._target()]
        while True:
            name = self._expander(self._globals, stage.origin.where)(stage.origin.base)
            index = find_stage(self.dockerfile.stages[: stage.index], name, by_index=False)
            if index is None:
                return found
            found.add(index)
            stage = self.dockerfile.stages[index]

    def _stage(self, index: int) -> StagePlan:
        """Lower stage `index` once; `_plans` keeps the order in which stages were finished."""
        if index not in self._plans and len(self._open) >= _NESTED:
            from minibuild.plan.needs import each_after_its_needs

            for needed in each_after_its_needs(index, self._needs, self._plans):
                self._lower(needed)
        return self._plans.get(index) or self._lower(index)

    def _needs(self, index: int) -> Iterator[int]:
        """The stages that stage `index` needs, as far as its own lines tell."""
        from minibuild.plan.needs import taken_from

        stage = self.dockerfile.stages[index]
        if stage.name and self.bases.has_context(stage.name):
            return
        base = find_stage(self.dockerfile.stages[:index], self._origin(stage)[0], by_index=False)
        if base is not None:
            yield base
        for needed, _ in taken_from(self.dockerfile.stages, stage, self.escape, self.bases.has_context):
            if needed < index:
                yield needed

    def _lower(self, index: int) -> StagePlan:
        stage = self.dockerfile.stages[index]
        if index in self._open:
            raise DockerfileError(
                f"circular dependency detected on stage: {stage.name or index}",
                where=stage.origin.where,
                cure="A stage can only use stages that do not use it.",
            )
        self._open.append(index)
        base, state = self._start(stage)
        self.origins[index] = base
        self._states[index] = state
        if index in self._replaced:
            stage = replace(stage, instructions=())
        triggers = [] if index in self._replaced else self._triggers(base, stage)
        state.total = self._count(stage, base, triggers)
        from_step = ""
        if not isinstance(base, FromScratch | FromStage):
            from_step = f"{state.prefix()}FROM {_shown(base, stage.origin.base)}"
        instructions = self._instructions
        state.onbuild = True
        for node in triggers:
            instructions.apply(node, state)
        state.onbuild = False
        for node in stage.instructions:
            instructions.apply(node, state)
        self._open.pop()
        plan = StagePlan(
            index=index,
            name=stage.name or f"stage-{index}",
            base=base,
            steps=tuple(state.steps),
            history=tuple(state.history),
            config=replace(state.collected.added_to(state.config), env=tuple(state.scope.image_env)),
            where=stage.origin.where,
            from_name=stage.origin.base,
            from_step=from_step,
        )
        self._plans[index] = plan
        return plan

    def _start(self, stage: ast.Stage) -> tuple[Source, StageState]:
        name, platform = self._origin(stage)
        base = self._base(stage, name, platform)
        scope = Scope()
        config = ImageConfig(platform=platform, working_dir="/")
        match base:
            case FromStage(index):
                parent = self._states[index]
                scope, config = parent.scope.inherit(), self._plans[index].config
                config = replace(config, onbuild=())
            case FromImage(image):
                config = replace(image.config, onbuild=())
                if self.options.unset is not None and stage.index in self._target_line():
                    config = self._without(config, self.options.unset)
                scope.image_env = list(config.env)
                if stage.index in self._replaced:
                    config = image.config
            case FromScratch():
                # As BuildKit: an empty image is of the target platform, whatever FROM says.
                platform = self.options.target_platform
                config = replace(config, platform=platform)
        if not any(entry.startswith("PATH=") for entry in scope.image_env):
            scope.image_env.append(f"PATH={DEFAULT_PATH}")
        for entry in scope.image_env:
            key, _, value = entry.partition("=")
            scope.variables[key] = value
        alone = len(self.dockerfile.stages) == 1
        return base, StageState(
            index=stage.index,
            display="" if alone else (stage.origin.name_as_written or stage.name or f"stage-{stage.index}"),
            scope=scope,
            config=config,
            platform=platform,
            where=stage.origin.where,
            cacheable=not self.options.no_cache and stage.name not in self.options.no_cache_stages,
        )

    def _origin(self, stage: ast.Stage) -> tuple[str, Platform]:
        """What FROM names, and the platform that it is wanted for."""
        origin = stage.origin
        expander = self._expander(self._globals, origin.where)
        name = expander(origin.base)
        if not name:
            raise DockerfileError(
                f"base name ({origin.base}) should not be blank",
                where=origin.where,
                cure="Give the ARG a default before the first FROM, or pass it with --build-arg.",
            )
        return name, self._platform(origin, expander) if origin.platform else self.options.target_platform

    def _platform(self, origin: ast.From, expander: Callable[[str], str]) -> Platform:
        text = expander(origin.platform)
        try:
            if not text:
                raise ValueError(f"empty platform value from expression {origin.platform}")
            return Platform.parse(text)
        except ValueError as error:
            raise DockerfileError(
                f"failed to parse platform {origin.platform}: {error}",
                where=origin.where,
                cure="Write it as linux/amd64, or use $BUILDPLATFORM or $TARGETPLATFORM.",
            ) from None

    def _base(self, stage: ast.Stage, name: str, platform: Platform) -> Source:
        where = stage.origin.where
        if stage.name:
            named = placed(lambda: self.bases.named_context(stage.name, platform), where)
            if named is not None:
                self._replaced.add(stage.index)
                return named
        earlier = find_stage(self.dockerfile.stages[: stage.index], name, by_index=False)
        if earlier is not None:
            self._stage(earlier)
            return FromStage(earlier)
        if name == "scratch":
            return FromScratch()
        return self._outside(name, platform, where)

    def _outside(self, name: str, platform: Platform, where: SourceRange) -> Source:
        named = placed(lambda: self.bases.named_context(name, platform), where)
        if named is not None:
            return named
        return FromImage(placed(lambda: self.bases.image(name, platform), where))

    def source(self, name: str, state: StageState, where: SourceRange) -> Source:
        """What ``--from=name`` means: a stage by name or index, a named context, or an image."""
        index = find_stage(self.dockerfile.stages, name)
        if index is None and name == "scratch":
            return FromScratch()
        if index is None and name.isdigit():
            raise DockerfileError(
                f"invalid stage index {name}",
                where=where,
                cure="Stages are counted from 0; better name them with AS.",
            )
        if index is None:
            try:
                return self._outside(name, state.platform, where)
            except MinibuildError as error:
                if not any(mark in name for mark in "/:@"):
                    stages = [stage.name for stage in self.dockerfile.stages[: state.index] if stage.name]
                    hint = did_you_mean(name, stages)
                    error.cure = f"No stage is called {name}{hint}, so an image was asked for. {error.cure}"
                raise
        check_earlier(name, index, state.index, where)
        self._stage(index)
        return FromStage(index)

    def _triggers(self, base: Source, stage: ast.Stage) -> list[ast.Instruction]:
        """The ONBUILD instructions that the base leaves for this stage."""
        match base:
            case FromImage(image):
                expressions = image.config.onbuild
            case FromStage(index):
                expressions = self._plans[index].config.onbuild
            case _:
                expressions = ()
        return [parse_onbuild(text, where=stage.origin.where) for text in expressions]

    def _count(self, stage: ast.Stage, base: Source, triggers: list[ast.Instruction]) -> int:
        counted = (ast.Copy, ast.Run, ast.Workdir)
        nodes = sum(isinstance(node, counted) for node in stage.instructions)
        return nodes + len(triggers) + (not isinstance(base, FromScratch | FromStage))

    def _not_cached(self, node: ast.Instruction, state: StageState) -> bool:
        """Whether the caller does not want the last step of `state`, that of `node`, from the cache."""
        if self._no_cache_steps is None:
            return False
        name = self.dockerfile.stages[state.index].name or str(state.index)
        target = state.index == self._target()
        return self._no_cache_steps.names(node.code, name, state.done, target=target)


def _no_cache_steps(options: LowerOptions) -> NoCacheSteps | None:
    if not options.no_cache_steps:
        return None
    from minibuild.plan.stepoptions import NoCacheSteps

    return NoCacheSteps(options.no_cache_steps)


def _shown(base: Source, written: str) -> str:
    """What a stage starts from, an image with its digest."""
    if not isinstance(base, FromImage):
        return written
    name = base.image.name
    return name if "@" in name else f"{name}@{base.image.digest}"
