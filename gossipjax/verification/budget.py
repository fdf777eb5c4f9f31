"""What auditing costs and what it catches, so that a run can choose how much to audit.

With a share q of updates audited by τ auditors on average, each redoing one of m segments:

    compute = q τ / m                          of all training steps
    bytes   = q τ s / f                        of all payload bytes: a state is s payloads, each
                                               update goes to f neighbors
    caught  = 1 - exp(-h τ b / m)              of the audited updates with b of m segments false,
                                               when a share h of the auditors is honest

Poisson numbers of auditors, as sortition gives them.
"""

import math


def compute_overhead(share: float, auditors: float, segments: int) -> float:
    """Part of all training steps that is done again."""
    return share * auditors / segments


def byte_overhead(share: float, auditors: float, state_payloads: float, fanout: int) -> float:
    """Bytes of audited states over bytes of exchanged payloads.

    Args:
        share: of updates that are audited.
        auditors: on average, per audited update.
        state_payloads: bytes that one audit moves over bytes of a payload: 2 for SGD with momentum
            (start parameters and momentum), 3 for Adam; the end only when its root differs.
        fanout: neighbors that take each update.
    """
    return share * auditors * state_payloads / fanout


def caught(honest: float, auditors: float, segments: int, false_segments: int) -> float:
    """Probability that an audited update with so many false segments is found out."""
    return -math.expm1(-honest * auditors * false_segments / segments)


def affordable_share(
    *,
    auditors: float,
    segments: int,
    state_payloads: float,
    fanout: int,
    compute: float = 0.05,
    traffic: float = 0.08,
    share_max: float = 0.25,
) -> float:
    """The largest share of updates to audit that keeps to both budgets.

    Args:
        auditors: on average, per audited update.
        segments: of a round.
        state_payloads: as for `byte_overhead`.
        fanout: neighbors that take each update.
        compute: part of the training compute that auditing may take.
        traffic: part of the exchanged bytes that auditing may take.
        share_max: never audit more.
    """
    by_compute = compute * segments / auditors
    by_traffic = traffic * fanout / (auditors * state_payloads)
    return min(share_max, by_compute, by_traffic)


def affordable_percent(
    *, auditors: float, segments: int, state_payloads: float, fanout: int, percent_max: int
) -> int:
    """`affordable_share` as the rules of a run have it: whole percent, rounded down, at least 1."""
    share = affordable_share(
        auditors=auditors,
        segments=segments,
        state_payloads=state_payloads,
        fanout=fanout,
        share_max=percent_max / 100,
    )
    return max(1, math.floor(100 * share + 1e-9))


def affordable_probe_share(
    *, probe: float, arrivals: float, compute: float = 0.015, share_max: float = 0.125
) -> float:
    """The largest share of arriving updates to probe that keeps to a budget.

    Args:
        probe: what one probe costs, as a part of the compute of an own round.
        arrivals: updates that arrive per own round; on average the fanout.
        compute: part of the training compute that probing may take.
        share_max: never probe more.
    """
    return min(share_max, compute / (probe * arrivals))
