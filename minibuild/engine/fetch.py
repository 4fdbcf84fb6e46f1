"""ADD of a URL or a git repository: by whichever module can fetch it."""

from __future__ import annotations

from minibuild.engine.fetched import Fetched
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, MinibuildError
from minibuild.plan.steps import GitItem, UrlItem


def fetch(session: Session, item: UrlItem | GitItem) -> Fetched:
    """Fetch `item`, or find it fetched already."""
    if session.layers.stand_ins is not None:
        return session.layers.stand_ins.fetched(item)
    begun = session.fetches.get(item)
    if begun is not None:
        return begun.result()
    if item in session.refused:
        raise session.refused[item]
    try:
        return fetch_now(session, item)
    except Cancelled:
        raise
    except MinibuildError as error:
        session.refused[item] = error
        raise


def fetch_now(session: Session, item: UrlItem | GitItem) -> Fetched:
    # Few builds fetch anything, and neither module is light.
    if isinstance(item, GitItem):
        from minibuild.engine.git import fetch_git

        return fetch_git(session, item)
    from minibuild.engine.download import fetch_url

    return fetch_url(session, item)
