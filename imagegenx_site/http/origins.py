"""Whether a page of another site made a browser send a request. Browsers send HTTP Basic credentials that they know on
their own, whoever asks, as they do cookies; unlike cookies these know no SameSite.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_OWN: Final = ("same-origin", "none")  # of Sec-Fetch-Site; none: the user's own doing


def of_another_site(headers: Mapping[str, str]) -> bool:
    """By `Sec-Fetch-Site`, else by `Origin` and `Host`; programs send neither of the first two."""
    site = headers.get("Sec-Fetch-Site")
    if site:
        return site.strip().lower() not in _OWN
    origin = headers.get("Origin")
    if not origin:
        return False
    try:
        named = urlsplit(origin).netloc.lower()
    except ValueError:
        return True
    return not named or named != headers.get("Host", "").lower()
