"""Who may see numbers and names of machines: who sends METRICS_TOKEN, or without one this machine; and staff."""

import hmac

from django.conf import settings
from django.http import HttpRequest

from generation.admission import failures, rates
from imagegenx_site.http.forwarded import is_local


def may_see(request: HttpRequest) -> bool:
    """Wrong tokens are counted: raises TooManyRequests after too many."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN and given:
        if hmac.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
            return True
        failures.begin(failures.KEY, "metrics", rates.client_address(request))
        return False
    if not settings.METRICS_TOKEN and is_local(request):
        return True
    return is_staff(request)


def is_staff(request: HttpRequest) -> bool:
    """Whether the browser is logged in to the admin."""
    return bool(request.COOKIES) and request.user.is_active and getattr(request.user, "is_staff", False)
