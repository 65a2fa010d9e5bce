"""How fresh what is shown is: the facts, where they are read, and the one function that judges them."""
