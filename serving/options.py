"""Every option of the gRPC server that bounds what a peer may make it hold or do, with its reason.

grpc's own defaults are made for peers that trust each other. Times are in milliseconds, sizes in bytes.
"""

from typing import Final

MINUTE: Final = 60_000

MAX_REQUEST: Final = 2**20
MAX_ANSWER: Final = 16 * 2**20

# What all clients together may make a server hold. One client may have half of each: see serving.api.quota.
MAX_CALLS: Final = 4096
"""Calls in progress, and as many calls of the health service, counted from their headers on."""
MAX_UPLOADS: Final = 64
"""Requests that are read at once, each of which gRPC holds until it is whole. More wait for their turn."""
MAX_UNREAD: Final = 64 * 2**20
"""Bytes of responses that clients have not read yet."""
MAX_WATCHES: Final = 1024
"""Watches of health, which have no end and need no token: one for each connection there may be."""
WATCHES_A_PEER: Final = 16
"""Watches on one connection: a client has one for each service that it asks for, and seldom asks for two."""
MAX_ADDRESS_CONNECTIONS: Final = 512
"""Connections of one address, half of all."""

REQUEST_TIMEOUT: Final = 20.0
"""Seconds in which a request must arrive, from its headers on."""
READ_RATE: Final = 64 * 2**10
"""Bytes a second that a client must read of a response, beyond the time for which it may read nothing."""
MAX_STALLED: Final = 2**20
"""Bytes of overdue responses for which a connection is closed. Fewer may be those of one slow client behind
a proxy, whose other calls on the same connection would be lost."""
MAX_LATE: Final = MAX_CALLS // 4
"""Calls with responses that were not read within a second. When there are more, connections are closed, those
with the most of them first."""

OPTIONS: Final[dict[str, int]] = {
    # The largest request of use is a list of 4,096 texts or excluded strings. A longer one is refused by
    # its length prefix, a compressed one as soon as it has grown to this.
    "grpc.max_receive_message_length": MAX_REQUEST,
    # The largest answer of use is the distribution after 1,024 prefixes. Without an end, one call with
    # a large alphabet would make as many gigabytes as it likes.
    "grpc.max_send_message_length": MAX_ANSWER,
    # A call has a few short headers and a token. From the first figure on headers are refused at random,
    # the more likely the larger they are; from the second on always.
    "grpc.max_metadata_size": 8 * 2**10,
    "grpc.absolute_max_metadata_size": 16 * 2**10,
    # As many calls as a model has rows by default. Streams that are reset at once still count until they
    # are cleaned up, which is what stops a rapid reset.
    "grpc.max_concurrent_streams": 256,
    # Calls that have come and wait for the event loop, while it is busy or the machine is. By default grpc
    # cancels some of them from the thousandth on; it is the server that refuses, and says why.
    "grpc.server.max_pending_requests": MAX_CALLS,
    "grpc.server.max_pending_requests_hard_limit": MAX_CALLS,
    # A connection costs a descriptor and up to 4 MB of the kernel's memory if it reads nothing.
    "grpc.max_allowed_incoming_connections": 1024,
    # A peer that connects and says nothing, or takes its time over TLS, is gone after this.
    "grpc.server_handshake_timeout_ms": 5_000,
    # A connection without calls is closed; a client opens another when it needs one.
    "grpc.max_connection_idle_ms": 5 * MINUTE,
    # Clients connect anew now and then (grpc varies it by a tenth): new replicas get their share, new
    # certificates and tokens are seen. Calls under way then go on, but not for ever: a stalled upload
    # holds its stream no longer than this. A stream of strings that is cut can go on at its index.
    "grpc.max_connection_age_ms": 10 * MINUTE,
    "grpc.max_connection_age_grace_ms": 10 * MINUTE,
    # A peer that has vanished without a word (no FIN, no RST) is found by pinging it.
    "grpc.keepalive_time_ms": MINUTE,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 1,
    # A peer may ping every ten seconds; one that does so more often has two strikes, then the connection.
    "grpc.http2.min_ping_interval_without_data_ms": 10_000,
    "grpc.http2.max_ping_strikes": 2,
    # What a peer may have on its way before it is read. By default grpc grows this with the bandwidth
    # to megabytes a stream; requests are small, so the least that HTTP/2 allows is enough.
    "grpc.http2.bdp_probe": 0,
    "grpc.http2.lookahead_bytes": 64 * 2**10,
    "grpc.http2.max_frame_size": 16 * 2**10,
    # grpc's own debugging service, which lists every connection and its peer.
    "grpc.enable_channelz": 0,
}


def server_options(is_shared: bool) -> list[tuple[str, int]]:
    """The options of a server; `is_shared` lets other processes listen on its port.

    Unless it is to be shared, a second server fails instead of taking half the calls.
    """
    return [*OPTIONS.items(), ("grpc.so_reuseport", int(is_shared))]
