"""The commands of `./barmill`, one module each, and the modules that they share."""
