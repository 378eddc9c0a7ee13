"""What the tests of the reader share: a reader with limits, and a conversation read in
given pieces.
"""

import itertools

from spyglass.config.settings import Config
from spyglass.errors import RequestError
from spyglass.http11.request import Limits
from spyglass.http11.request_body import Bodies
from spyglass.http11.request_reader import RequestReader

# What a client may get from the reader; 408 and 5xx of the server's own come from
# elsewhere.
STATUSES = {400, 413, 414, 417, 431, 501, 505}


def limits_of(**settings):
    """The Limits that a worker with these settings has."""
    config = Config(settings)
    return Limits(
        max_head=config.max_head,
        max_fields=config.max_fields,
        max_body=config.max_body,
        body_memory=config.body_memory,
        bodies=Bodies(config.bodies_memory, config.bodies_disk),
    )


def reader(**limits):
    return RequestReader(limits_of(**limits))


def facts(request):
    """All that an app could tell two requests apart by."""
    body = None
    if request.body is not None:
        body = request.body.open().read()
        request.body.close()
    return (
        request.method,
        request.target,
        request.version,
        request.path,
        request.query,
        request.fields,
        request.keep_alive,
        body,
    )


def converse(pieces, each=None, **limits):
    """(requests as facts, status of the refusal or None, whether it ends between two
    requests), by `each`, a reader, or one with `limits`.
    """
    each, requests = each or reader(**limits), []
    try:
        for piece in pieces:
            while (request := each.next(piece)) is not None:
                requests.append(facts(request))
                piece = b""
        return requests, None, each.quiet
    except RequestError as error:
        assert error.status in STATUSES
        assert str(error)
        return requests, error.status, None
    finally:
        each.close()


def cut(data, places):
    """`data` in pieces, cut at these places."""
    places = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if start < end]


def single(data, **limits):
    """The one request that `data` is."""
    requests, status, quiet = converse([data], **limits)
    assert (len(requests), status, quiet) == (1, None, True)
    return requests[0]


def refused(data, **limits):
    """The status with which `data` is refused; nothing of it may reach an app."""
    requests, status, _ = converse([data], **limits)
    assert requests == []
    return status
