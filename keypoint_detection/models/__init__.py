"""Backbones, head, losses and schedules."""
