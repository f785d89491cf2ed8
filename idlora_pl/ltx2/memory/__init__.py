"""How little memory the base model needs: weights in few bits, blocks on the host, activations computed again."""
