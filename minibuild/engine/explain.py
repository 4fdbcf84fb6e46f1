"""From a step of the plan to what the cache needs to explain its miss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from minibuild_store.store import Store

from minibuild.cache.explain import NO_CACHE as NO_CACHE
from minibuild.cache.explain import NOT_HELD as NOT_HELD
from minibuild.cache.explain import Explainer, Step
from minibuild.cache.journal import Cause
from minibuild.cache.parts import FindListing, Labels
from minibuild.context.digests import read_listing
from minibuild.engine.session import Session
from minibuild.plan import steps
from minibuild.plan.steps import StagePlan

if TYPE_CHECKING:
    from minibuild.cache.listings import Listing


def listings(store: Store) -> FindListing:
    """Gives the files behind a content digest, where this store knows them."""
    records = store.records("listings")

    def listing(content: str) -> Listing | None:
        if not content:
            return lambda: iter(())
        data = records.get(content)
        return None if data is None else lambda: read_listing(data)

    return listing


def explainer(session: Session) -> Explainer:
    shared = session.shared.builds() if session.shared is not None else ()
    return Explainer(session.store, session.journal, listings(session.store), shared)


def explain(
    found: Explainer, stage: StagePlan, number: int, step: steps.Step, key: str, parts: Mapping[str, str]
) -> Cause:
    if not step.cacheable:
        return NO_CACHE
    return found.explain(Step(stage.name, number, key, parts, labels(step)))


def labels(step: steps.Step) -> Labels:
    """What the user knows the sources of `step` by."""
    items: dict[str, str] = {}
    if isinstance(step, steps.CopyStep):
        for index, item in enumerate(step.items):
            match item:
                case steps.UrlItem(url):
                    items[f"source {index}"] = url
                case steps.GitItem(remote, ref):
                    items[f"source {index}"] = f"{remote}#{ref}" if ref else remote
                case steps.InlineItem(name):
                    items[f"source {index}"] = f"the here-document {name}"
    return Labels(items=items)
