"""What a request may cost: the size of its body and of the document in it, the pictures that it names by address."""
