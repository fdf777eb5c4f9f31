"""Whom an update is offered to."""

from collections.abc import Mapping

from gossipjax.protocol.neighbor import Neighbor
from gossipjax.protocol.rng import SplitMix64
from gossipjax.types import PeerId


def near_and_random(
    neighbors: Mapping[PeerId, Neighbor], partner: list[PeerId], count: int, rng: SplitMix64
) -> list[PeerId]:
    """A random partner, and others from the half of the neighbors with the shortest round trip.

    Args:
        neighbors: those that are not suspected; of unknown round trip: counted as far.
        partner: who was drawn at random from all of them; empty when there is none.
        count: how many in all.
        rng: draws those of the near half.
    """
    others = [
        (neighbor.round_trip_ns is None, neighbor.round_trip_ns or 0, place, peer)
        for place, (peer, neighbor) in enumerate(neighbors.items())
        if peer not in partner
    ]
    near = [peer for *_, peer in sorted(others)[: max((len(others) + 1) // 2, count - 1)]]
    return partner + rng.sample(near, count - 1)
