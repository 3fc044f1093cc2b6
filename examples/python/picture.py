# SPDX-License-Identifier: Apache-2.0
"""The waterfalls as one picture: a whole batch above, the transport's stages alone, enlarged, below."""
import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "sluice", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

from waterfall import STAGES, TRANSPORT, duration  # noqa: E402

COLOURS = dict(zip(STAGES, ("#8fb4d9", "#b9d3ec", "#e0884a", "#c8553d", "#e8b04b", "#b8b8b8", "#8c6bb1")))


def draw_bars(axes, waterfalls, stages, unit_ns, label):
    """A bar for each way, the medians of its stages end to end; returns how long each bar is."""
    ends = []
    for row, waterfall in enumerate(waterfalls.values()):
        begin = 0
        for name in stages:
            took = waterfall.percentile(name, 50) / unit_ns
            axes.barh(row, took, left=begin, height=0.6, color=COLOURS[name], label=name if row == 0 else None)
            begin += took
        ends.append(begin)
    axes.set_yticks(range(len(waterfalls)), waterfalls)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.2)
    return ends


def save(waterfalls, subtitle, path):
    figure, (whole, transport) = plt.subplots(2, figsize=(8, 4.4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.07, 1, 0.93))  # below it the legend
    ends = draw_bars(whole, waterfalls, STAGES, 1e6, "milliseconds, medians of the stages")
    for row, (end, waterfall) in enumerate(zip(ends, waterfalls.values())):
        share = waterfall.transport(50) / waterfall.percentile("total", 50)
        whole.text(end, row, f" transport {100 * share:.1f} % (medians)", va="center")
    ends = draw_bars(transport, waterfalls, TRANSPORT, 1e3, "the transport alone, microseconds, medians of the stages")
    for row, (end, waterfall) in enumerate(zip(ends, waterfalls.values())):
        transport.text(end, row, f" p95 of the sum: {duration(waterfall.transport(95))}", va="center")
    figure.suptitle(f"A batch on its way from text to vectors: {subtitle}", fontsize=10)
    figure.legend(*whole.get_legend_handles_labels(), loc="lower center", ncols=len(STAGES), frameon=False,
                  handlelength=1, columnspacing=1.2)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
