"""The freshness of the bars shown: the facts, their readers, and the functions that judge them."""
