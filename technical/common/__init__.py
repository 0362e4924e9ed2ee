"""Plumbing shared by every package: errors, command lines, files, images, run logs. Knows nothing about faces."""
