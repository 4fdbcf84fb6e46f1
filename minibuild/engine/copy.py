"""What a COPY or ADD copies: its sources found, and digested for the step's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minibuild_store.shorthash import sha256

from minibuild.context.select import NothingThere
from minibuild.engine.gathered import Gathered, TreeLower
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles, Files, TreeFiles
from minibuild.plan import steps

if TYPE_CHECKING:
    from minibuild.context.selection import Selected


def gather(
    session: Session,
    step: steps.CopyStep,
    files: Files,
    lower: TreeLower,
    made_ns: int,
    *,
    write_first: bool = False,
    noted: bool = False,
) -> Gathered:
    """Find what `step` copies and what it is, by content. Raises `DockerfileError` for what is not there.

    With `write_first` the layer may be written on the way; `noted` as in `Gathered`.
    """
    gathered = Gathered(session, step, files, lower, made_ns, write_first, noted)
    for number, item in enumerate(step.items):
        match item:
            case steps.PathItem(pattern):
                gathered.contents[number] = _path_digest(gathered, number, pattern)
            case steps.InlineItem(_, content):
                data = content.encode("utf-8", "surrogateescape")
                gathered.contents[number] = sha256(data).hexdigest()
            case steps.UrlItem() | steps.GitItem():
                from minibuild.engine.fetch import fetch

                gathered.fetched[number] = fetch(session, item)
                gathered.contents[number] = gathered.fetched[number].identity
    return gathered


def _selection(step: steps.CopyStep, pattern: str) -> str:
    return f"{pattern}\n{step.exclude}\n{step.parents}\n{_keeps_modes(step)}"


def _keeps_modes(step: steps.CopyStep) -> bool:
    """Whether the modes of what is copied matter: no --chmod sets them all to one."""
    if step.unpack or not step.chmod:
        return True
    from minibuild.plan.chmod import octal

    return octal(step.chmod) is None


def _path_digest(gathered: Gathered, number: int, pattern: str) -> str:
    files, step = gathered.files, gathered.step
    selection = _selection(step, pattern)
    if isinstance(files, ContextFiles) and files.on_disk:
        try:
            return _surveyed_digest(gathered, number, files, pattern)
        except NothingThere as error:
            from minibuild.engine.notfound import not_found

            raise not_found(error, files) from None
    known = None
    if isinstance(files, TreeFiles):
        known = files.known_digest(selection)
    elif isinstance(files, ContextFiles) and not step.parents:
        known = files.known_digest(selection, pattern)
    if known is not None:
        return known
    gathered.session.at_work()
    try:
        with gathered.session.working():
            survey, modes = gathered.survey(number, pattern), _keeps_modes(step)
            if not isinstance(files, TreeFiles) or len(step.items) == 1:
                return files.digest(selection, survey, modes=modes)
            if gathered.sums is None:
                unknown = _unknown(gathered, files, number)
                gathered.sums = files.sums([*unknown.values()])
                gathered.summed = frozenset(unknown)
            # what was known a moment ago may have been collected since
            sums = gathered.sums if number in gathered.summed else None
            return files.digest(selection, survey, modes=modes, sums=sums)
    except NothingThere as error:
        from minibuild.engine.notfound import not_found

        raise not_found(error, files) from None


def _unknown(gathered: Gathered, files: TreeFiles, start: int) -> dict[int, Selected]:
    """What the paths from `start` on select, by item position, as far as its digest is not known."""
    step = gathered.step
    return {
        number: gathered.survey(number, item.pattern)
        for number, item in enumerate(step.items)
        if number >= start
        and isinstance(item, steps.PathItem)
        and files.known_digest(_selection(step, item.pattern)) is None
    }


def _surveyed_digest(gathered: Gathered, number: int, files: ContextFiles, pattern: str) -> str:
    """The digest of files of this machine; `gathered` gets their layer where they are written on the way."""
    session, step = gathered.session, gathered.step
    selection = _selection(step, pattern)
    survey = files.survey(pattern, exclude=step.exclude, parents=step.parents)
    gathered.surveys[number] = survey
    known = files.surveyed_before(selection, survey)
    if known is not None:
        return known
    session.at_work()
    from minibuild.engine.contextcopy import ContextCopy
    from minibuild.engine.placing import copying_of

    copying = ContextCopy(copying_of(gathered), files, _keeps_modes(step))
    if not gathered.write_first or step.unpack or len(step.items) > 1:
        with session.working():
            return copying.look(survey, selection)
    # builds that copy the same wait for the first to read it, and find its digest
    with session.store.lock(f"read {files.root} {selection}", waiting=session.check):
        known = files.surveyed_before(selection, survey)
        if known is not None:
            return known
        chain = gathered.lower.chain
        looks = chain is not None and files.written_before(selection, _over(step, chain))
        with session.working():
            written = None if looks else copying.write_first(survey, selection)
            if written is None:
                return copying.look(survey, selection)
        content, gathered.layer = written
        gathered.read_once = selection
        return content


def note_written(gathered: Gathered, chain: str) -> None:
    """Have the next build of the step over `chain` look whether its layer is known, and not write it first.

    It may not know the files: if they have just been checked out, their stamps may not be trusted yet.
    """
    if gathered.read_once and isinstance(gathered.files, ContextFiles):
        gathered.files.note_written(gathered.read_once, _over(gathered.step, chain))


def _over(step: steps.CopyStep, chain: str) -> str:
    """What a step makes of a selection, and over what: all of its key that may differ from build to build."""
    return f"{'' if step.link else chain}\n{step.dest}\n{step.chown}\n{step.chmod}"
