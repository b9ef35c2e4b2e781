"""Heatmap maths, drawing and checkpoint loading: a closed set."""
