"""Which changes would have saved time: each proposed by a rule, then proved by replaying the history with it.

The best is taken first and the search goes on with it in place, so that every saving that is told comes on
top of those before it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from minibuild.lab.costs import cost_note
from minibuild.lab.measures import Measured, Summary, measure
from minibuild.lab.proposals import Proposal, dockerfile_proposals, ignorable, ignore_proposal
from minibuild.lab.replay import Outcome, Replay, Replayer, check_built
from minibuild.lab.variants import Variant, Written
from minibuild.values import NamedTuple

_ROUNDS = 12
_LEAST_SHARE = 0.001
"""What a proposal has to save of the seconds of a build to be told at all."""


class Advice(NamedTuple):
    """A proposal that was proved; `before` and `after` are of the same commits.

    `seconds` is what it would have saved over all of these, `diff` a unified diff of the file that changes.
    """

    proposal: Proposal
    before: Summary
    after: Summary
    seconds: float
    diff: str


Proved = tuple[Advice, Outcome]


class Report(NamedTuple):
    """What was found, in the order in which it should be done; `tried` are the proposals that were replayed.

    `first` and `last` are how it was and how it would be with everything, `dockerfile` and `ignore` the files
    then; `costs` says where seconds come from.
    """

    advice: tuple[Advice, ...]
    first: Summary
    last: Summary
    tried: int
    dockerfile: str
    ignore: str
    costs: str


class Adviser:
    """Looks for better files for the last commit, on the history of `replayer`."""

    def __init__(
        self, replayer: Replayer, dockerfile: Written, text: str, ignore: str, *, pull_rate: float, seed: int
    ) -> None:
        self._replayer = replayer
        self._name = dockerfile.name
        self._text = text
        self._ignore = ignore
        self._rate = pull_rate
        self._seed = seed
        self._shared = any(variant.shared for variant in replayer.spec.variants)
        self._last = replayer.snapshot(replayer.spec.commits[-1])
        self._git_folder = self._last.git_folder
        self._changed = list(self._changed_names())
        self._tried = 0

    def report(self, told: Callable[[str], None] = lambda title: None) -> Report:
        """`told` hears the title of what is tried. Raises a `MinibuildError` where nothing can be built."""
        text, ignore = self._text, self._ignore
        current = self._outcome(text, ignore)
        check_built(self._name, current.builds)
        start = current
        found: list[Advice] = []
        for _ in range(_ROUNDS):
            best = self._best(self._proposals(text, ignore, current), current, text, ignore, told)
            best = best or self._together(current, text, ignore, told)
            if best is None:
                break
            found.append(best[0])
            current = best[1]
            text, ignore = best[0].proposal.dockerfile, best[0].proposal.ignore
        first, last = self._measured(start, current).summaries
        origins = {step.origin for built in start.builds for step in built.steps}
        return Report(tuple(found), first, last, self._tried, text, ignore, cost_note(origins))

    def _best(
        self,
        proposals: Iterable[Proposal],
        current: Outcome,
        text: str,
        ignore: str,
        told: Callable[[str], None],
    ) -> Proved | None:
        """The proposal that saves most; None where none saves anything."""
        best: Proved | None = None
        for proposal in proposals:
            told(proposal.title)
            self._tried += 1
            after = self._outcome(proposal.dockerfile, proposal.ignore)
            advice = self._compared(proposal, current, after, text, ignore)
            if advice is not None and (best is None or advice.seconds > best[0].seconds):
                best = advice, after
        return best

    def _together(
        self, current: Outcome, text: str, ignore: str, told: Callable[[str], None]
    ) -> Proved | None:
        """Ignore lines of which none helps alone, because each commit changes one or the other."""
        names = self._ignorable(text, ignore)
        if len(names) < 2:
            return None
        best = self._best([ignore_proposal(text, ignore, names)], current, text, ignore, told)
        for name in names if best is not None else ():
            fewer = [one for one in names if one != name]
            found = self._best([ignore_proposal(text, ignore, fewer)], current, text, ignore, told)
            if found is not None and best is not None and found[0].seconds >= best[0].seconds:
                names, best = fewer, found
        return best

    def _ignorable(self, text: str, ignore: str) -> list[str]:
        return ignorable(text, ignore, self._last, self._changed, git_folder=self._git_folder)

    def _proposals(self, text: str, ignore: str, current: Outcome) -> Iterator[Proposal]:
        yield from dockerfile_proposals(text, ignore, self._last, _own_changes(current))
        for name in self._ignorable(text, ignore):
            yield ignore_proposal(text, ignore, [name])

    def _outcome(self, text: str, ignore: str) -> Outcome:
        variant = Variant(
            "with the change",
            Written(self._name, self._name, text=text.encode("utf-8", "surrogateescape")),
            Written(".dockerignore", ".dockerignore", text=ignore.encode("utf-8", "surrogateescape")),
            shared=self._shared,
        )
        return self._replayer.outcome(variant)

    def _measured(self, before: Outcome, after: Outcome) -> Measured:
        replay = Replay(tuple(self._replayer.spec.commits), (before, after))
        return measure(replay, pull_rate=self._rate, seed=self._seed)

    def _compared(
        self, proposal: Proposal, before: Outcome, after: Outcome, text: str, ignore: str
    ) -> Advice | None:
        """None where the change saves nothing, or breaks a build that was whole."""
        broken = sum(bool(one.error) for one in after.builds) > sum(bool(one.error) for one in before.builds)
        last_fails = bool(after.builds[-1].error) and not before.builds[-1].error
        measured = self._measured(before, after)
        old, new = measured.summaries
        if last_fails or not new.builds or (broken and new.builds < len(after.builds) // 2):
            return None
        assert new.gain is not None
        if new.gain.value <= _LEAST_SHARE * old.spent.value or new.gain.low < 0:
            return None
        if proposal.ignore != ignore:
            diff = _diff(ignore, proposal.ignore, ".dockerignore")
        else:
            diff = _diff(text, proposal.dockerfile, self._name)
        return Advice(proposal, old, new, new.gain.value * new.builds, diff)

    def _changed_names(self) -> Iterator[str]:
        """The names in the context's root that some commit of the range changed."""
        history = self._replayer.history
        before = None
        counts: Counter[bytes] = Counter()
        for commit in self._replayer.spec.commits:
            root = self._replayer.snapshot(commit).root
            tree = history.tree(root) if root is not None else {}
            if before is not None and tree is not before:
                counts.update(name for name in {*tree, *before} if tree.get(name) != before.get(name))
            before = tree
        for name, _ in counts.most_common():
            yield name.decode("utf-8", "surrogateescape")


def _own_changes(outcome: Outcome) -> dict[str, int]:
    """How often each instruction missed because of its own files."""
    return Counter(
        step.instruction
        for built in outcome.builds[1:]
        for step in built.steps
        if step.cause == "files" and not built.error
    )


def _diff(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=2
    )
    return "\n".join(lines)
