"""The lab's pictures, as SVG: timelines of tasks, bars of ratios, curves over sizes."""
