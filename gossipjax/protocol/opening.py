"""Opening what others have signed, as it must be for this run."""

from typing import NamedTuple

from gossipjax.crypto.suite import CryptoSuite
from gossipjax.types import RunId
from gossipjax.wire.envelope import Verified, open_header, open_record
from gossipjax.wire.messages import PeerRecord, Sealed, Snapshot, UpdateHeader


class Opener(NamedTuple):
    """What records and headers are checked against.

    Attributes:
        run: id of the run.
        manifest_digest: digest of the run's manifest.
        payload_bytes: size of every payload.
        suite: verifies signatures.
    """

    run: RunId
    manifest_digest: bytes
    payload_bytes: int
    suite: CryptoSuite

    def header(self, sealed: Sealed, author: PeerRecord) -> Verified[UpdateHeader]:
        """The header of an update of `author`.

        Raises:
            RemoteProtocolError: the header is refused.
        """
        return open_header(sealed, author, self.manifest_digest, self.payload_bytes, self.suite)

    def snapshot(
        self, snapshot: Snapshot, now_s: int
    ) -> tuple[Verified[PeerRecord], Verified[UpdateHeader]]:
        """The author and the header of an update that somebody holds.

        Raises:
            RemoteProtocolError: one of the two is refused.
        """
        author = open_record(snapshot.author, self.run, self.suite, now_s)
        return author, self.header(snapshot.header, author.body)
