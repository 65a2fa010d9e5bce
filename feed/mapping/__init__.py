"""Mappings: from what a provider answers to rows of ours."""
