"""The library that all of Barmill's programs share; docs/explanation/architecture.md describes its layers."""
