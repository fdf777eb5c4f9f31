"""Sizes that bound what a stranger can make this process hold, and the reasons for a refusal."""

PROTOCOL_VERSION = 1
"""Written in every greeting. Peers of different versions do not talk."""

CHUNK_BYTES = 1 << 20
"""Payloads travel in chunks of 1 MiB: 2 to 4 times faster through CURVE than one large frame."""

CHUNKS_MAX = 1 << 16
"""At most 64 GiB per payload."""

PROOF_HASHES_MAX = 16
"""Depth of a Merkle tree over `CHUNKS_MAX` leaves."""

MESSAGE_BYTES_MAX = 16 << 10
"""A message without its bulk data."""

FRAME_BYTES_MAX = CHUNK_BYTES + MESSAGE_BYTES_MAX
"""What a socket accepts as one frame."""

PACKET_BYTES_MAX = FRAME_BYTES_MAX
"""What a relay passes on as one frame: a sealed message with its data."""

CREDIT_CHUNKS = 8
"""Chunks that a receiver may have asked for and not yet received, per transfer."""

SEGMENTS_MAX = 1024
"""Segments of a committed round of training."""

ADDRESSES_MAX = 4
"""Endpoints in a peer record."""

RECORDS_PER_MESSAGE_MAX = 16
"""Peer records in one `Peers`; so many of the largest fit `MESSAGE_BYTES_MAX`."""

SNAPSHOTS_PER_MESSAGE_MAX = 4
"""Updates in one `Snapshots`: few, since two signatures are verified for each."""

TICKETS_KEPT = 3
"""Lowest tickets of an epoch that are passed on, and any of which a draw may hang on."""

TICKETS_PER_MESSAGE_MAX = 6
"""Those of two epochs."""

VOTES_PER_CERTIFICATE_MAX = 40
"""Votes that travel together; so many fit `MESSAGE_BYTES_MAX`."""

RUMOR_HOPS_MAX = 16
"""Times that a rumor may be passed on."""

TEXT_LENGTH_MAX = 200
"""Characters of an endpoint, or of the reason of a `Leave`."""

INTEGER_MAX = 2**53
"""Counters stay exact in every language's float64."""

REASONS = {
    "malformed": "bytes that are no message or value, or a message where it makes no sense",
    "protocol": "another protocol version or another run",
    "signature": "unsigned, or signed with another key",
    "author": "an update of somebody else than the peer that offers it",
    "expired": "a peer record past its expiry",
    "shape": "names, shapes or dtypes differ from this run's manifest",
    "size": "the number of bytes does not follow from the manifest",
    "sequence": "an older sequence number than one already seen from this author",
    "replay": "the sequence number that was last seen from this author, again",
    "root": "a chunk that does not belong to the announced Merkle root",
    "unsolicited": "chunks, peer records or snapshots that nobody asked for",
    "credit": "chunks asked for that the update does not have, or more at once than anybody needs",
    "quota": "chunks of an update asked for again and again",
    "rate": "more questions in a short time than an honest neighbor has",
    "stalled": "a transfer without progress, or too slow while others waited: no fault",
    "sealed": "a packet of a relay that does not open: altered, replayed or forged",
    "nonfinite": "NaN or infinity in a tensor",
    "proof": "a proof of a verifiable random function that does not belong to what it is for",
    "evidence": "evidence that proves nothing",
    "claim": "a round of training that cannot have been as its author says",
    "norm": "a tensor tree whose Euclidean norm is above the limit",
}
"""Every reason under which something that a peer sent is refused and counted."""
