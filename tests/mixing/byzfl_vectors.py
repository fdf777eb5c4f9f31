"""Writes tests/vectors/byzfl.json: what rules and attacks of ByzFL 0.0.11 make of random inputs.

    pip install byzfl==0.0.11 && python tests/mixing/byzfl_vectors.py

In an environment of its own: ByzFL needs PyTorch, which this project's tests do without. Its Krum
sums over the n - f - 1 nearest inputs, the paper's and ours over n - f - 2, so it is told of one
attacker more; its ALIE adds the deviation that ours takes off. Its Multi-Krum selects more inputs
than the paper allows for, and is left out.
"""

import json
from pathlib import Path

import byzfl  # pyright: ignore[reportMissingImports]
import numpy as np

FILE = Path(__file__).parents[1] / "vectors" / "byzfl.json"


def main() -> None:
    rng = np.random.default_rng(0)
    cases = []
    for count in (7, 10):
        scales = rng.uniform(0.3, 2, (count, 1))
        inputs = np.round(rng.standard_normal((count, 23)) * scales, 3)
        nearest = byzfl.NNM(f=2)(inputs)
        centered = byzfl.CenteredClipping(L=3, tau=2.0)
        centered.m = inputs[0]  # its constructor takes no start
        outputs = {
            "coordinate_median()": byzfl.Median()(inputs),
            "trimmed_mean(2)": byzfl.TrMean(f=2)(inputs),
            "geometric_median()": byzfl.GeometricMedian(nu=1e-9, T=3000)(inputs),
            "krum(1)": byzfl.Krum(f=2)(inputs),
            "centered_clip(2)": centered(inputs),
            "nearest_neighbors(2), trimmed_mean(2)": byzfl.TrMean(f=2)(nearest),
            "drop_farthest(2)": byzfl.MoNNA(f=2, idx=0)(inputs),
            "sign_flip()": byzfl.SignFlipping()(inputs),
            "inner_product(0.1)": byzfl.InnerProductManipulation(tau=0.1)(inputs),
            "little_is_enough(1.5)": byzfl.ALittleIsEnough(tau=-1.5)(inputs),
        }
        case = {name: np.round(output, 9).tolist() for name, output in outputs.items()}
        cases.append({"inputs": inputs.tolist(), "outputs": case})
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
