"""HTTP in and out: who sent a request, what answers carry, which addresses may be reached."""
