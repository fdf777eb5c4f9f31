"""A slow link between two processes of one machine, in user space: a TCP relay that holds back.

Each direction has a rate, a delay and stalls: now and then nothing leaves for a while, which is all
that a connection sees of lost packets. All connections through a link share it, as they would a
cable.
What waits for its turn is bounded, so that the sender feels the link as it would a real one.
"""

import asyncio
import random
import threading
from typing import NamedTuple

_PIECE_BYTES = 16 << 10
_QUEUE_S = 0.1  # a router's buffer: so much waits at most, besides what is on its way


class Profile(NamedTuple):
    """A kind of link, the same in both directions.

    Attributes:
        name: for tables.
        bytes_per_s: rate.
        round_trip_s: delay there and back.
        stalls: chance that a piece of 16 KiB is held up.
        stall_s: for how long.
    """

    name: str
    bytes_per_s: float
    round_trip_s: float
    stalls: float = 0.0
    stall_s: float = 0.0


PROFILES = (
    Profile("LAN", 125e6, 0.0005),
    Profile("1 Gbit/s 20 ms", 125e6, 0.02),
    Profile("100 Mbit/s 80 ms", 12.5e6, 0.08),
    Profile("20 Mbit/s 150 ms 1 % stalls", 2.5e6, 0.15, stalls=0.01, stall_s=0.2),
)


class Link:
    """A port that leads to another one through a slow link; use within `with`.

    Args:
        profile: of the link.
        target: port of this machine where it ends; may be set until the first connection.
        seed: of the stalls.

    Attributes:
        port: where it begins.
    """

    def __init__(self, profile: Profile, target: int = 0, seed: int = 0):
        self.target = target
        self.port = 0
        self._profile = profile
        self._random = random.Random(seed)
        self._free_s = {"there": 0.0, "back": 0.0}
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def __enter__(self) -> "Link":
        self._thread.start()
        self._is_ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._relay, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _relay(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        try:
            far, to_far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # nobody is there (any more)
            to_near.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry("there", near, to_far))
            group.create_task(self._carry("back", far, to_near))

    async def _carry(
        self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Read as fast as the link takes it; a second task lets each piece out when it is due."""
        profile, loop = self._profile, self._loop
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arrival = asyncio.create_task(_deliver(on_its_way, sink))
        try:
            while piece := await source.read(_PIECE_BYTES):
                begins_s = max(self._free_s[direction], loop.time())
                if self._random.random() < profile.stalls:
                    begins_s += profile.stall_s
                ends_s = begins_s + len(piece) / profile.bytes_per_s
                self._free_s[direction] = ends_s
                on_its_way.put_nowait((ends_s + profile.round_trip_s / 2, piece))
                await asyncio.sleep(ends_s - loop.time() - _QUEUE_S)
        except ConnectionError:
            pass
        finally:
            on_its_way.put_nowait((loop.time() + profile.round_trip_s / 2, b""))
            await arrival


async def _deliver(
    on_its_way: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter
) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            due_s, piece = await on_its_way.get()
            await asyncio.sleep(due_s - loop.time())
            if not piece:
                break
            sink.write(piece)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()
