"""The Python behind the door `./barmill`: one module a command."""
