"""Mappings: from a provider's responses to Barmill's rows."""
