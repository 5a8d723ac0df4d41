"""Who may read which slide through the data routes: short signed tokens, sent as a header."""

from __future__ import annotations

import functools
import secrets
import time

from itsdangerous import BadSignature, URLSafeTimedSerializer

HEADER = "x-sf-token"
"""A header and not part of the address, which would end up in access logs and histories."""

MAX_AGE_S = 12 * 3600
_RENEW_S = 3600

# One secret per process: a token outlives neither the server nor a copy of its disk. After a
# restart the page's script runs again and mints new ones.
_serializer = URLSafeTimedSerializer(secrets.token_hex(32), salt="spatialformer-viewer")


def mint_token(owner: str, slide_id: str) -> str:
    """Return a token with which ``owner`` can read the data of one slide for the next hours.

    The same token is returned for about an hour, so that a rerun of the page changes nothing in the
    browser; it is valid for `MAX_AGE_S` seconds.
    """
    return _mint(owner, slide_id, int(time.time() // _RENEW_S))


@functools.lru_cache(maxsize=4096)
def _mint(owner: str, slide_id: str, hour: int) -> str:
    return str(_serializer.dumps([owner, slide_id]))


def owner_of(token: str, slide_id: str) -> str | None:
    """Return whose token it is if it is valid for this slide now, None otherwise."""
    try:
        owner, slide, minted_s = _signed(token)
    except (BadSignature, ValueError, TypeError):
        return None
    return owner if slide == slide_id and time.time() - minted_s <= MAX_AGE_S else None


@functools.lru_cache(maxsize=4096)
def _signed(token: str) -> tuple[str, str, float]:
    """Return owner, slide and time of a token. Kept: a view of a slide asks hundreds of times."""
    (owner, slide), minted = _serializer.loads(token, return_timestamp=True)
    return str(owner), str(slide), minted.timestamp()
