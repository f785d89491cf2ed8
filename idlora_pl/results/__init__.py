"""What was measured: a clip's scores, the file that keeps them, and intervals and tests over them."""
