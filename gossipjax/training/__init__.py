"""What is trained, and the local steps between two exchanges."""

from gossipjax.training.local import LocalTrainer, RoundReport, TrainState, train_alone
from gossipjax.training.workload import PublicData, Shard, Workload, load_workload, public_samples

__all__ = [
    "LocalTrainer",
    "PublicData",
    "RoundReport",
    "Shard",
    "TrainState",
    "Workload",
    "load_workload",
    "public_samples",
    "train_alone",
]
