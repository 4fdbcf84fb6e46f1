"""Build checks of an ordinary build: known from the last build of the same, else found once it is done.

Only where the findings are to stop the build (``error=true``) are they looked for before anything runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreError
from minibuild_store.shorthash import sha256

from minibuild.dockerfile.instruction import Arg, Dockerfile
from minibuild.engine.bases import ImageBases
from minibuild.engine.inputs import Inputs
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, MinibuildError, SourceRange
from minibuild.events import CheckWarning, CheckWarnings
from minibuild.oci.platform import Platform
from minibuild.plan.scope import platform_args
from minibuild.plan.steps import FromImage, Plan, Source

if TYPE_CHECKING:
    from minibuild.dockerfile.ignorefile import IgnoreFile
    from minibuild.dockerfile.lint import Base
    from minibuild.dockerfile.lintrules import Finding, LintOptions

_VERSION = 2  # raise it when the checks find something else in the same file


class Checks:
    """The checks of one build of `dockerfile`, whose last findings are known by the place of its `inputs`."""

    def __init__(
        self,
        session: Session,
        dockerfile: Dockerfile,
        plan: Plan,
        bases: ImageBases,
        inputs: Inputs,
    ) -> None:
        self._session = session
        self._dockerfile = dockerfile
        self._plan = plan
        self._bases = bases
        self._ignore = inputs.ignore
        self._place = inputs.place
        self._args = session.request.build_args
        self._settings = settings(dockerfile, self._args)
        self._found: list[CheckWarning] | None = None

    @contextmanager
    def around(self) -> Iterator[None]:
        """Around the steps: findings are told when they are over, however they end.

        Raises `DockerfileError` first where ``error=true`` makes an error of them, or the options are
        malformed.
        """
        if self._settings:
            self._check_settings()
        self._session.in_pause = self._look_ahead
        try:
            yield
        except Cancelled:
            raise
        except MinibuildError:
            self._tell()
            raise
        self._tell()

    def _check_settings(self) -> None:
        from minibuild.dockerfile.lint import failure

        options = read_options(self._dockerfile, self._args)
        if options.error:
            found = self._run()
            error = failure(found, options)
            if error is not None:
                self._emit([warning(one) for one in found])
                raise error

    def _look_ahead(self) -> None:
        with suppress(MinibuildError, StoreError):  # which is told at the end
            self._found = self._find()

    def _tell(self) -> None:
        unused = unconsumed(self._dockerfile, self._plan, self._args)
        if unused:
            self._session.notice("warning", unused)
        self._emit(self._find() if self._found is None else self._found)

    def _find(self) -> list[CheckWarning]:
        records = self._session.store.records("checks")
        key = self._key()
        known = records.get(self._place)
        if known is not None and known.startswith(key):
            return [CheckWarning(*row) for row in json.loads(known[len(key) :])]
        found = [warning(one) for one in self._run()]
        rows = [[one.rule, one.message, one.file, one.line, one.url] for one in found]
        records.put(self._place, key + json.dumps(rows).encode())
        return found

    def _emit(self, found: list[CheckWarning]) -> None:
        if found:
            self._session.emit(CheckWarnings(tuple(found)))

    def _key(self) -> bytes:
        """The digest of all that the findings depend on."""
        request = self._session.request
        bases = {
            stage.index: [stage.base.image.digest, str(self._bases.asked(stage.base.image))]
            for stage in self._plan.stages
            if isinstance(stage.base, FromImage)
        }
        document = [
            _VERSION, self._dockerfile.name, self._dockerfile.text, sorted(self._args.items()),
            str(request.platform), [stage.index for stage in self._plan.stages], bases,
            [line.text for line in self._ignore.patterns] if self._ignore is not None else None,
        ]  # fmt: skip
        return sha256(json.dumps(document).encode()).digest()

    def _run(self) -> list[Finding]:
        origins = {stage.index: stage.base for stage in self._plan.stages}
        return findings(self._session, self._dockerfile, origins, self._bases, self._ignore)


def findings(
    session: Session,
    dockerfile: Dockerfile,
    origins: Mapping[int, Source],
    bases: ImageBases,
    ignore: IgnoreFile | None,
    until: SourceRange | None = None,
) -> list[Finding]:
    """What the checks find in the stages of `origins` (what each starts from), and in all FROM lines.

    The search ends with the instruction at `until`.
    """
    from minibuild.dockerfile.lint import Base, lint

    def base(index: int, name: str) -> Base | None:
        source = origins.get(index)
        if not isinstance(source, FromImage):
            return None
        env, have = source.image.config.environment(), source.image.config.platform
        want = bases.asked(source.image, name)
        onbuild = source.image.config.onbuild
        if want is None or (have.os, have.architecture) == (want.os, want.architecture):
            return Base(env, onbuild=onbuild)
        return Base(env, str(have), str(want), onbuild)

    return lint(
        dockerfile,
        options=read_options(dockerfile, session.request.build_args),
        build_args=session.request.build_args,
        platform=str(session.request.platform or Platform.of_host()),
        bases=base,
        ignore=None if ignore is None else ignore.copy(),
        stages=origins,
        until=until,
    )


def settings(dockerfile: Dockerfile, build_args: Mapping[str, str]) -> str:
    """The text of the check options in force: BUILDKIT_DOCKERFILE_CHECK goes before the file's."""
    given = build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    return given if given is not None else dict(dockerfile.directives).get("check", "")


def read_options(dockerfile: Dockerfile, build_args: Mapping[str, str]) -> LintOptions:
    """Raises `DockerfileError` where they are malformed."""
    from minibuild.dockerfile.lint import file_options
    from minibuild.dockerfile.lintrules import parse_lint_options

    given = build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    return file_options(dockerfile) if given is None else parse_lint_options(given)


def warning(finding: Finding) -> CheckWarning:
    rule, where = finding.rule, finding.where
    return CheckWarning(rule.name, finding.message, where.file, where.first, rule.url)


def unconsumed(dockerfile: Dockerfile, plan: Plan, build_args: Mapping[str, str]) -> str:
    """A sentence on build arguments that no ARG declares, as the classic builder's; "" for none."""
    given = [name for name in build_args if not _predefined(name)]
    if not given:
        return ""
    declared = _declared(dockerfile, plan)
    unused = [name for name in given if name not in declared]
    if not unused:
        return ""
    from minibuild.dockerfile.suggest import did_you_mean

    hint = did_you_mean(unused[0], sorted(declared)) if len(unused) == 1 else ""
    return f"One or more build-args [{' '.join(unused)}] were not consumed{hint}"


def _predefined(name: str) -> bool:
    host = Platform.of_host()
    return (
        name.lower() in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
        or name.startswith("BUILDKIT_")
        or name == "SOURCE_DATE_EPOCH"
        or name in platform_args(host, host, "", {})
    )


def _declared(dockerfile: Dockerfile, plan: Plan) -> set[str]:
    nodes = [node for stage in dockerfile.stages for node in stage.instructions if isinstance(node, Arg)]
    declared = {name for node in (*dockerfile.global_args, *nodes) for name, _ in node.args}
    for stage in plan.stages:
        for text in stage.base.image.config.onbuild if isinstance(stage.base, FromImage) else ():
            word, _, rest = text.partition(" ")
            if word.upper() == "ARG":
                declared.update(part.partition("=")[0] for part in rest.split())
    return declared
