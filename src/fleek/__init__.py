"""Fleek: the media-generation service that never loses a job and never pays twice."""

__version__ = "0.1.0"
