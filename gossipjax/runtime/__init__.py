"""The real world: ZeroMQ, asyncio, the operating system's clock and entropy, disk."""
