"""Small PyFlink programs that tests hand to a real cluster."""
