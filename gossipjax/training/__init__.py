"""What is trained, and the local steps between two exchanges."""

from gossipjax.training.local import LocalTrainer, RoundReport, TrainState, train_alone
from gossipjax.training.workload import Shard, Workload, load_workload

__all__ = [
    "LocalTrainer",
    "RoundReport",
    "Shard",
    "TrainState",
    "Workload",
    "load_workload",
    "train_alone",
]
